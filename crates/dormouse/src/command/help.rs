//! `help options`: what becomes of every option of CRIU's.

use std::fmt::Write as _;

use crate::args::table::{COMMANDS, CriuOption, OPTIONS, Standing, Value};

/// The text.
pub(crate) fn options() -> String {
    let mut out = String::from("Options of CRIU's command line, and what becomes of them here:\n");
    section(&mut out, "Carried out", &|standing| match standing {
        Standing::Implemented => Some(String::new()),
        _ => None,
    });
    section(
        &mut out,
        "Accepted; they matter only to state which is refused where it is met",
        &|standing| match standing {
            Standing::Concerns(state) => Some(state.to_owned()),
            _ => None,
        },
    );
    section(
        &mut out,
        "Accepted; the result is the same without them",
        &|standing| match standing {
            Standing::Method(way) => Some(way.to_owned()),
            _ => None,
        },
    );
    section(&mut out, "Refused", &|standing| match standing {
        Standing::Refused(reason) => Some(reason.to_owned()),
        Standing::Only(values, reason) => {
            Some(format!("{reason} (only {} is accepted)", values.join(", ")))
        }
        _ => None,
    });
    out.push_str("\nCommands of CRIU's that are refused:\n");
    for command in COMMANDS {
        line(&mut out, command.name, command.reason);
    }
    out
}

fn section(out: &mut String, title: &str, remark: &dyn Fn(Standing) -> Option<String>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "\n{title}:");
    for option in OPTIONS {
        if let Some(remark) = remark(option.standing) {
            line(out, &synopsis(option), &remark);
        }
    }
}

fn line(out: &mut String, name: &str, remark: &str) {
    let text = format!("  {name:<36} {remark}");
    let _ = writeln!(out, "{}", text.trim_end());
}

/// `-x, --name[=VALUE]`
pub(super) fn synopsis(option: &CriuOption) -> String {
    let short = option.short.map_or_else(|| "    ".to_owned(), |c| format!("-{c}, "));
    let no = if option.negatable { "[no-]" } else { "" };
    let value = match option.value {
        Value::None => "",
        Value::Required => " VALUE",
        Value::Optional => "[=VALUE]",
    };
    format!("{short}--{no}{}{value}", option.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text as `docs/cli-options.md` has it.
    fn markdown() -> String {
        let mut out = String::from(
            "# CRIU's options, and what becomes of them\n\n\
             One row for each option of CRIU 4.2. This page is made from the table in\n\
             `crates/dormouse/src/args/table.rs`; a test compares them \
             (`UPDATE_DOCS=1 cargo test -p dormouse` writes it anew).\n\n\
             * **yes**: it does what it does in CRIU.\n\
             * **accepted**: it matters only to the state that is named, and a program with such \
             state is refused\n  whether the option is given or not; or it chooses between ways \
             to the same result.\n\
             * **no**: the option is refused by name, and nothing is done.\n\n\
             | option | | |\n|---|---|---|\n",
        );
        for option in OPTIONS {
            let (standing, remark) = match option.standing {
                Standing::Implemented => ("yes", String::new()),
                Standing::Concerns(state) => ("accepted", format!("matters only to {state}")),
                Standing::Method(way) => ("accepted", way.to_owned()),
                Standing::Only(values, reason) => {
                    ("no", format!("{reason} (only `{}` is accepted)", values.join("`, `")))
                }
                Standing::Refused(reason) => ("no", reason.to_owned()),
            };
            let _ =
                writeln!(out, "| `{}` | {standing} | {remark} |", synopsis(option).trim_start());
        }
        out.push_str("\n| command | | |\n|---|---|---|\n");
        for command in COMMANDS {
            let _ = writeln!(out, "| `{}` | no | {} |", command.name, command.reason);
        }
        out
    }

    #[test]
    fn the_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli-options.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), markdown());
    }
}
