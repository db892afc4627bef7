//! What the harness must know about a scenario, as data.

use std::fmt;

use crate::Context;

/// One tiny program and the facts about it.
pub struct Scenario {
    module: &'static str,
    run: fn(&mut Context),
    users: Users,
    needs: &'static [&'static str],
    missing: fn() -> Option<String>,
    differs: &'static [(&'static str, &'static str)],
    refused: Option<&'static str>,
    descriptor: bool,
    dump_faults: bool,
    restore_faults: bool,
    options: &'static [&'static str],
}

/// Who a scenario may run as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Users {
    /// As root and as an ordinary user.
    Both,
    /// Needs capabilities.
    Root,
    /// Would prove nothing as root.
    Ordinary,
}

/// One user a scenario is run as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum User {
    /// uid 0 with the capabilities the harness has.
    Root,
    /// Uid 18943, gid 58467, one supplementary group, no capabilities.
    Ordinary,
}

impl User {
    /// uid of [`User::Ordinary`].
    pub const UID: u32 = 18_943;
    /// gid of [`User::Ordinary`].
    pub const GID: u32 = 58_467;
}

impl Scenario {
    /// Facts with nothing special about them. `module` is the module's own
    /// `module_path!()`, which also gives the scenario its name.
    #[must_use]
    pub(crate) const fn new(module: &'static str, run: fn(&mut Context)) -> Self {
        Self {
            module,
            run,
            users: Users::Both,
            needs: &[],
            missing: || None,
            differs: &[],
            refused: None,
            descriptor: false,
            dump_faults: false,
            restore_faults: false,
            options: &[],
        }
    }

    /// Limits who runs it.
    #[must_use]
    pub(crate) const fn users(mut self, users: Users) -> Self {
        self.users = users;
        self
    }

    /// Names the kinds of state beyond the foundation's that it is made of
    /// (`locks`, `sockets`, ...), so that the harness can leave it out while a
    /// checkpointer lacks them.
    #[must_use]
    pub(crate) const fn needs(mut self, needs: &'static [&'static str]) -> Self {
        self.needs = needs;
        self
    }

    /// A probe of the machine: `Some(reason)` if it cannot run here.
    #[must_use]
    pub(crate) const fn missing(mut self, probe: fn() -> Option<String>) -> Self {
        self.missing = probe;
        self
    }

    /// What may differ in the snapshots of `/proc`: patterns of keys (`*`
    /// matches anything) with the reason.
    #[must_use]
    pub(crate) const fn differs(mut self, list: &'static [(&'static str, &'static str)]) -> Self {
        self.differs = list;
        self
    }

    /// The dump must be refused, naming the pid, the descriptor number 42 and
    /// this kind of object.
    #[must_use]
    pub(crate) const fn refused(mut self, kind: &'static str) -> Self {
        self.refused = Some(kind);
        self.descriptor = true;
        self
    }

    /// The dump must be refused, naming the pid and this kind of object, which
    /// is behind no descriptor.
    #[must_use]
    pub(crate) const fn refused_task(mut self, kind: &'static str) -> Self {
        self.refused = Some(kind);
        self
    }

    /// Chosen for the expensive actions too: dumps and restores that are
    /// killed or fail.
    #[must_use]
    pub(crate) const fn faults(mut self) -> Self {
        self.restore_faults = true;
        self.dump_faults()
    }

    /// Chosen for dumps that are killed or fail.
    #[must_use]
    pub(crate) const fn dump_faults(mut self) -> Self {
        self.dump_faults = true;
        self
    }

    /// More options for the checkpointer, such as `--shell-job`.
    #[must_use]
    pub(crate) const fn options(mut self, options: &'static [&'static str]) -> Self {
        self.options = options;
        self
    }

    /// `subject::name`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.module.split_once("::").map_or(self.module, |(_, name)| name)
    }

    /// Whether `test` is one of this scenario's, which are named after it.
    #[must_use]
    pub fn is_tested_by(&self, test: &str) -> bool {
        test.strip_prefix(self.name()).is_some_and(|rest| rest.starts_with("::"))
    }

    /// Whether it is dumped, and not refused.
    #[must_use]
    pub fn can_be_dumped(&self) -> bool {
        self.refused.is_none()
    }

    /// Sets up, waits and verifies in this process.
    pub fn run(&self, cx: &mut Context) {
        (self.run)(cx);
    }
}

/// One line of tab-separated `key=value` fields, which is what `--list` prints
/// and the harness reads.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name())?;
        if self.users != Users::Ordinary {
            write!(f, "\tuser=root")?;
        }
        if self.users != Users::Root {
            write!(f, "\tuser=ordinary")?;
        }
        for need in self.needs {
            write!(f, "\tneeds={need}")?;
        }
        if let Some(reason) = (self.missing)() {
            write!(f, "\tmissing={reason}")?;
        }
        for (keys, reason) in self.differs {
            write!(f, "\tdiffers={keys}|{reason}")?;
        }
        if let Some(kind) = self.refused {
            write!(f, "\trefused={kind}")?;
        }
        if self.descriptor {
            write!(f, "\tdescriptor=42")?;
        }
        if self.dump_faults {
            write!(f, "\tfaults=dump")?;
        }
        if self.restore_faults {
            write!(f, "\tfaults=restore")?;
        }
        for option in self.options {
            write!(f, "\toption={option}")?;
        }
        Ok(())
    }
}
