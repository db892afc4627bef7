//! Another kernel, booted in an emulated machine that sees this one's files.
//!
//! The guest's root directory is this machine's, read-only, by the 9p protocol; `/tmp`, `/run` and
//! `/dev/shm` are its own, but for one directory that may be in there. So whatever is built here
//! runs there under the same path. It takes
//! `qemu-system-x86_64` and a static `busybox`, and no virtualization by the processor.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// A kernel to boot.
#[derive(Clone, Debug)]
pub struct Kernel {
    image: PathBuf,
    modules: PathBuf,
}

/// Why a kernel cannot be booted.
#[derive(thiserror::Error, Debug)]
pub enum GuestError {
    /// The directory is not that of an unpacked package.
    #[error("{} has no boot/vmlinuz-VERSION and lib/modules/VERSION", .0.display())]
    NoKernel(PathBuf),
    /// A program that is needed cannot be run, or a file not be made.
    #[error("cannot {operation}: {source}")]
    Io {
        /// What could not be done.
        operation: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// Nor can what it made be used.
    #[error("cannot {operation}: {status}")]
    Failed {
        /// What could not be done.
        operation: &'static str,
        /// How the program for it ended.
        status: ExitStatus,
    },
}

/// Modules the guest's root takes, then those that a program causes to be loaded.
const LOADED: &str = "crc32c_generic libcrc32c virtio_pci 9pnet_virtio 9p unix_diag tcp_diag \
                      udp_diag raw_diag netlink_diag af_packet_diag nf_tables";
/// Where they and what they need are, below `kernel/`.
const MODULES: [&str; 8] = [
    "arch/x86/crypto",
    "crypto",
    "drivers/virtio",
    "fs/9p",
    "fs/fscache",
    "fs/netfs",
    "lib",
    "net",
];

/// The guest's first process. When it has the root, the script goes on there; then the machine is
/// switched off.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for module in LOADED; do modprobe $module; done
ifconfig lo up
mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 host /host
mount -t proc proc /host/proc
mount -t sysfs sysfs /host/sys
mount -t devtmpfs devtmpfs /host/dev
mkdir -p /host/dev/pts /host/dev/shm
mount -t devpts devpts /host/dev/pts
mkdir /bare
mount -o bind /host /bare
for own in /tmp /run /dev/shm; do mount -t tmpfs tmpfs /host$own; done
if [ ! -d "/hostVISIBLE" ]; then
    mkdir -p "/hostVISIBLE"
    mount -o bind "/bareVISIBLE" "/hostVISIBLE"
fi
exec switch_root /host /bin/sh -c "$(cat /script)
echo 1 > /proc/sys/kernel/sysrq
echo o > /proc/sysrq-trigger
sleep 60"
"#;

impl Kernel {
    /// The kernel of a package, such as Debian's `linux-image-6.1.0-56-amd64`, that is unpacked in
    /// `dir`.
    ///
    /// # Errors
    /// It is not there.
    pub fn find(dir: &Path) -> Result<Self, GuestError> {
        let none = || GuestError::NoKernel(dir.to_owned());
        let mut boot = fs::read_dir(dir.join("boot")).map_err(|_| none())?.flatten();
        let version = boot.find_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_prefix("vmlinuz-").map(str::to_owned)
        });
        let version = version.ok_or_else(none)?;
        let image = dir.join(format!("boot/vmlinuz-{version}"));
        let modules = dir.join("lib/modules").join(version);
        if modules.is_dir() { Ok(Self { image, modules }) } else { Err(none()) }
    }

    /// A command that boots it and runs `script`, a shell's, in it as root. What that prints goes
    /// to its standard output, among what the machine prints itself. It sees `visible`, wherever
    /// that is. Files it needs are made in `dir`.
    ///
    /// # Errors
    /// The files cannot be made.
    pub fn boot(&self, script: &str, visible: &Path, dir: &Path) -> Result<Command, GuestError> {
        let archive = self.first_files(script, visible, dir)?;
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2G"])
            .args(["-nographic", "-no-reboot"])
            .arg("-kernel")
            .arg(&self.image)
            .arg("-initrd")
            .arg(archive)
            .args(["-append", "console=ttyS0 quiet panic=-1"])
            .args([
                "-virtfs",
                "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
            ])
            .stdin(Stdio::null());
        Ok(command)
    }

    /// The archive the guest begins with.
    fn first_files(&self, script: &str, visible: &Path, dir: &Path) -> Result<PathBuf, GuestError> {
        let failed = |operation| move |source| GuestError::Io { operation, source };
        let root = dir.join("first");
        let version = self.modules.file_name().unwrap_or_default();
        let modules = root.join("lib/modules").join(version);
        for name in ["bin", "proc", "sys", "dev", "host"] {
            fs::create_dir_all(root.join(name)).map_err(failed("make a directory"))?;
        }
        for part in MODULES {
            let from = self.modules.join("kernel").join(part);
            let to = modules.join("kernel").join(part);
            // Not every kernel has all of them.
            if from.is_dir() {
                fs::create_dir_all(&to).map_err(failed("make a directory"))?;
                run("copy modules", Command::new("cp").arg("-rT").arg(from).arg(to))?;
            }
        }
        for name in ["modules.builtin", "modules.order"] {
            fs::copy(self.modules.join(name), modules.join(name))
                .map_err(failed("copy modules"))?;
        }
        run(
            "list modules",
            Command::new("busybox").arg("depmod").arg("-b").arg(&root).arg(version),
        )?;
        let busybox = root.join("bin/busybox");
        run(
            "copy busybox",
            Command::new("sh").args(["-c", r#"cp "$(command -v busybox)" "$0""#]).arg(busybox),
        )?;
        fs::write(root.join("script"), script).map_err(failed("write the script"))?;
        let init = root.join("init");
        let visible = visible.display().to_string();
        fs::write(&init, INIT.replace("LOADED", LOADED).replace("VISIBLE", &visible))
            .map_err(failed("write init"))?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755))
            .map_err(failed("write init"))?;
        let archive = dir.join("first.cpio");
        let pack = "find . | busybox cpio -o -H newc 2> /dev/null > \"$0\"";
        run("pack files", Command::new("sh").args(["-c", pack]).arg(&archive).current_dir(&root))?;
        Ok(archive)
    }
}

fn run(operation: &'static str, command: &mut Command) -> Result<(), GuestError> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(GuestError::Failed { operation, status }),
        Err(source) => Err(GuestError::Io { operation, source }),
    }
}
