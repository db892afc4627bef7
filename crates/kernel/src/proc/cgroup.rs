//! `/proc/PID/cgroup`.

use super::scan::{ParseError, Scan};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Where a task is in one cgroup hierarchy, see `cgroups(7)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupMembership {
    /// The number of the hierarchy; 0 for version 2.
    pub hierarchy: u32,
    /// Controllers, and the `name=` of a version 1 hierarchy; none for
    /// version 2.
    pub controllers: Vec<OsString>,
    /// The path below the root of the reader's cgroup namespace: it starts
    /// with `/..` outside of it. ` (deleted)` is appended to one that was
    /// removed.
    pub path: PathBuf,
}

/// One for each hierarchy.
pub(super) fn parse_cgroups(bytes: &[u8]) -> Result<Vec<CgroupMembership>, ParseError> {
    let mut scan = Scan::new(bytes);
    let mut groups = Vec::new();
    while !scan.is_empty() {
        let hierarchy = scan.dec("a hierarchy")?;
        scan.expect(":")?;
        let controllers = scan
            .until(b':')
            .split(|&byte| byte == b',')
            .filter(|name| !name.is_empty())
            .map(|name| OsString::from_vec(name.to_vec()))
            .collect();
        if scan.peek() != Some(b'/') {
            return scan.error("a path");
        }
        // No name in it can have a line end.
        let path = PathBuf::from(OsString::from_vec(scan.line().to_vec()));
        groups.push(CgroupMembership { hierarchy, controllers, path });
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::{CgroupMembership, parse_cgroups};

    #[test]
    fn both_versions() {
        let groups = parse_cgroups(b"9:name=systemd:/\n2:cpu,cpuacct:/a:b\n0::/../x\n").unwrap();
        let group = |hierarchy, controllers: &[&str], path: &str| CgroupMembership {
            hierarchy,
            controllers: controllers.iter().map(Into::into).collect(),
            path: path.into(),
        };
        assert_eq!(
            groups,
            [
                group(9, &["name=systemd"], "/"),
                group(2, &["cpu", "cpuacct"], "/a:b"),
                group(0, &[], "/../x")
            ]
        );
        assert!(parse_cgroups(b"0:x\n").is_err());
    }
}
