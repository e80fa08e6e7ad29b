//! File capabilities (capabilities(7)): their names, their text as setcap has it, and the
//! attribute that a kernel reads.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Name of the extended attribute.
pub const ATTRIBUTE: &str = "security.capability";

/// Names by number, as in `linux/capability.h`.
pub const NAMES: [&str; 41] = [
    "cap_chown",
    "cap_dac_override",
    "cap_dac_read_search",
    "cap_fowner",
    "cap_fsetid",
    "cap_kill",
    "cap_setgid",
    "cap_setuid",
    "cap_setpcap",
    "cap_linux_immutable",
    "cap_net_bind_service",
    "cap_net_broadcast",
    "cap_net_admin",
    "cap_net_raw",
    "cap_ipc_lock",
    "cap_ipc_owner",
    "cap_sys_module",
    "cap_sys_rawio",
    "cap_sys_chroot",
    "cap_sys_ptrace",
    "cap_sys_pacct",
    "cap_sys_admin",
    "cap_sys_boot",
    "cap_sys_nice",
    "cap_sys_resource",
    "cap_sys_time",
    "cap_sys_tty_config",
    "cap_mknod",
    "cap_lease",
    "cap_audit_write",
    "cap_audit_control",
    "cap_setfcap",
    "cap_mac_override",
    "cap_mac_admin",
    "cap_syslog",
    "cap_wake_alarm",
    "cap_block_suspend",
    "cap_audit_read",
    "cap_perfmon",
    "cap_bpf",
    "cap_checkpoint_restore",
];

/// `VFS_CAP_REVISION_2` and its flag for the effective set.
const REVISION_2: u32 = 0x0200_0000;
const EFFECTIVE: u32 = 1;

/// The capabilities of a file, as sets of bits by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// What a process gets by starting the file.
    pub permitted: u64,
    /// What a process keeps that has it as inheritable.
    pub inheritable: u64,
    /// Whether the process has them in force from the start; for all of them or for none.
    pub effective: bool,
}

/// Why a text says nothing about capabilities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CapabilityError {
    /// There is no capability of that name.
    Unknown(String),
    /// Flags other than `e`, `i` and `p`, or none of `i` and `p`.
    Flags(String),
    /// The effective flag is there for some and not for others.
    SomeEffective,
}

impl fmt::Display for CapabilityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "there is no capability `{name}`"),
            Self::Flags(text) => {
                write!(f, "`{text}` is no capability such as \"cap_net_bind_service+ep\"")
            }
            Self::SomeEffective => write!(
                f,
                "the flag `e` counts for all capabilities of a file, here some have it and some \
                 do not"
            ),
        }
    }
}

impl std::error::Error for CapabilityError {}

impl Capabilities {
    /// Reads texts such as `cap_net_raw`, which means `cap_net_raw+ep`, and
    /// `cap_net_raw,cap_net_admin=p`.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, CapabilityError> {
        let mut all = Self::default();
        let mut effective = Vec::new();
        for text in texts {
            let text = text.as_ref();
            let (names, flags) = match text.find(['+', '=', '-']) {
                // A file starts with none, so that there is nothing to take away.
                Some(at) if text[at..].starts_with('-') => (text, ""),
                Some(at) => (&text[..at], &text[at + 1..]),
                None => (text, "ep"),
            };
            let known = !flags.is_empty() && flags.chars().all(|flag| "eip".contains(flag));
            if !known || !flags.contains(['i', 'p']) {
                return Err(CapabilityError::Flags(text.to_owned()));
            }
            let mut bits = 0;
            for name in names.split(',') {
                let number = NAMES
                    .iter()
                    .position(|known| *known == name)
                    .ok_or_else(|| CapabilityError::Unknown(name.to_owned()))?;
                bits |= 1_u64 << number;
            }
            if flags.contains('p') {
                all.permitted |= bits;
            }
            if flags.contains('i') {
                all.inheritable |= bits;
            }
            effective.push(flags.contains('e'));
        }
        all.effective = effective.contains(&true);
        match all.effective && effective.contains(&false) {
            true => Err(CapabilityError::SomeEffective),
            false => Ok(all),
        }
    }

    /// The value of [`ATTRIBUTE`]: `struct vfs_cap_data` of revision 2, little-endian.
    pub fn attribute(&self) -> Vec<u8> {
        let magic = REVISION_2 | if self.effective { EFFECTIVE } else { 0 };
        let mut bytes = magic.to_le_bytes().to_vec();
        for half in [0, 32] {
            for set in [self.permitted, self.inheritable] {
                // The half that is asked for, and nothing above it.
                let half = u32::try_from(set >> half & 0xffff_ffff).unwrap_or_default();
                bytes.extend(half.to_le_bytes());
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(texts: &[&str]) -> String {
        let bytes = Capabilities::parse(texts).unwrap().attribute();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What `getfattr -e hex` shows after `setcap` with the same texts.
    #[test]
    fn attributes_are_as_setcap_writes_them() {
        let bind = "0100000200040000000000000000000000000000";
        assert_eq!(hex(&["cap_net_bind_service"]), bind);
        assert_eq!(hex(&["cap_net_bind_service+ep"]), bind);
        assert_eq!(hex(&["cap_net_bind_service=ep"]), bind);
        assert_eq!(hex(&["cap_net_bind_service=p"]), "0000000200040000000000000000000000000000");
        assert_eq!(
            hex(&["cap_net_raw,cap_net_admin+eip"]),
            "0100000200300000003000000000000000000000"
        );
        assert_eq!(hex(&["cap_net_admin", "cap_net_raw"]), hex(&["cap_net_raw,cap_net_admin+pe"]));
        assert_eq!(
            hex(&["cap_checkpoint_restore+ep", "cap_bpf+i"][..1]),
            "0100000200000000000000000001000000000000"
        );
    }

    #[test]
    fn wrong_texts_are_refused() {
        let error = |texts: &[&str]| Capabilities::parse(texts).unwrap_err().to_string();
        assert_eq!(error(&["cap_net_bind"]), "there is no capability `cap_net_bind`");
        assert_eq!(error(&["CAP_CHOWN"]), "there is no capability `CAP_CHOWN`");
        for text in ["cap_chown+", "cap_chown+x", "cap_chown+e", "cap_chown-p"] {
            assert!(Capabilities::parse(&[text]).is_err(), "{text}");
        }
        assert!(error(&["cap_chown+ep", "cap_kill+p"]).starts_with("the flag `e` counts"));
    }
}
