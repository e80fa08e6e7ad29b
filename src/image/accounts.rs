//! Users and groups of an image: `etc/passwd` and `etc/group` as values, and numbers that
//! are the same on every platform and in every run.
//!
//! Numbers below 100 are the distribution's own (Debian policy 9.2.2). Others are given from
//! 100 on in the order of names, over all that come at once; what a base has stays.

use std::collections::BTreeSet;

/// A line of `etc/passwd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: String,
    /// What stands for its password.
    pub password: String,
    /// Number.
    pub number: u64,
    /// Number of its group.
    pub group: u64,
    /// What it is for.
    pub comment: String,
    /// Home folder.
    pub home: String,
    /// Shell.
    pub shell: String,
}

/// A line of `etc/group`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Name.
    pub name: String,
    /// What stands for its password.
    pub password: String,
    /// Number.
    pub number: u64,
    /// Names of its members.
    pub members: Vec<String>,
}

impl Group {
    fn new(name: &str, number: u64) -> Self {
        Self { name: name.to_owned(), password: "x".to_owned(), number, members: vec![] }
    }
}

/// Users and groups, in the order of their files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accounts {
    users: Vec<User>,
    groups: Vec<Group>,
    /// Lines of both files that are of another kind, which stay at their ends.
    others: [Vec<String>; 2],
}

/// A user that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Name.
    pub name: String,
    /// Number, where it is fixed.
    pub number: Option<u64>,
    /// Its group; one of its own name unless it is said.
    pub group: Option<String>,
    /// What it is for.
    pub comment: String,
    /// Home folder.
    pub home: String,
    /// Shell.
    pub shell: String,
}

/// Users that have the same numbers on every system of the distribution.
const STATIC_USERS: [(&str, u64, u64, &str); 16] = [
    ("daemon", 1, 1, "/usr/sbin"),
    ("bin", 2, 2, "/bin"),
    ("sys", 3, 3, "/dev"),
    ("games", 5, 60, "/usr/games"),
    ("man", 6, 12, "/var/cache/man"),
    ("lp", 7, 7, "/var/spool/lpd"),
    ("mail", 8, 8, "/var/mail"),
    ("news", 9, 9, "/var/spool/news"),
    ("uucp", 10, 10, "/var/spool/uucp"),
    ("proxy", 13, 13, "/bin"),
    ("www-data", 33, 33, "/var/www"),
    ("backup", 34, 34, "/var/backups"),
    ("list", 38, 38, "/var/list"),
    ("irc", 39, 39, "/run/ircd"),
    ("_apt", 42, 65534, "/nonexistent"),
    ("nobody", 65534, 65534, "/nonexistent"),
];

/// Groups that have the same numbers on every system of the distribution.
const STATIC_GROUPS: [(&str, u64); 38] = [
    ("root", 0),
    ("daemon", 1),
    ("bin", 2),
    ("sys", 3),
    ("adm", 4),
    ("tty", 5),
    ("disk", 6),
    ("lp", 7),
    ("mail", 8),
    ("news", 9),
    ("uucp", 10),
    ("man", 12),
    ("proxy", 13),
    ("kmem", 15),
    ("dialout", 20),
    ("fax", 21),
    ("voice", 22),
    ("cdrom", 24),
    ("floppy", 25),
    ("tape", 26),
    ("sudo", 27),
    ("audio", 29),
    ("dip", 30),
    ("www-data", 33),
    ("backup", 34),
    ("operator", 37),
    ("list", 38),
    ("irc", 39),
    ("src", 40),
    ("shadow", 42),
    ("utmp", 43),
    ("video", 44),
    ("sasl", 45),
    ("plugdev", 46),
    ("staff", 50),
    ("games", 60),
    ("users", 100),
    ("nogroup", 65534),
];

/// Numbers for those that have none of their own.
const NUMBERS: std::ops::RangeInclusive<u64> = 101..=999;

impl Default for Accounts {
    /// Those that every image has.
    fn default() -> Self {
        let passwd = include_str!("../../templates/root/passwd");
        Self::parse(passwd, include_str!("../../templates/root/group"))
    }
}

impl Accounts {
    /// Reads `etc/passwd` and `etc/group` (passwd(5), group(5)). Other lines are kept as they
    /// are.
    pub fn parse(passwd: &str, group: &str) -> Self {
        let user = |line: &str| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, password, number, group, comment, home, shell] = fields[..] else {
                return None;
            };
            Some(User {
                name: name.to_owned(),
                password: password.to_owned(),
                number: number.parse().ok()?,
                group: group.parse().ok()?,
                comment: comment.to_owned(),
                home: home.to_owned(),
                shell: shell.to_owned(),
            })
        };
        let group_of = |line: &str| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, password, number, members] = fields[..] else { return None };
            let members = members.split(',').filter(|name| !name.is_empty());
            Some(Group {
                name: name.to_owned(),
                password: password.to_owned(),
                number: number.parse().ok()?,
                members: members.map(str::to_owned).collect(),
            })
        };
        let others = |text: &str, is_known: &dyn Fn(&str) -> bool| {
            text.lines().filter(|line| !is_known(line)).map(str::to_owned).collect()
        };
        Self {
            users: passwd.lines().filter_map(user).collect(),
            groups: group.lines().filter_map(group_of).collect(),
            others: [
                others(passwd, &|line| user(line).is_some()),
                others(group, &|line| group_of(line).is_some()),
            ],
        }
    }

    /// Adds those of `others` whose names are new, before those that have high numbers.
    pub fn join(&mut self, others: &Self) {
        for user in &others.users {
            if self.user(&user.name).is_none() {
                self.users.push(user.clone());
            }
        }
        for group in &others.groups {
            if self.group(&group.name).is_none() {
                self.groups.push(group.clone());
            }
        }
    }

    /// The user of that name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    /// The group of that name.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// Adds users and groups that are wanted and not there.
    pub fn add(&mut self, users: &[Wanted], groups: &[String]) {
        let named = users.iter().map(|user| (user.name.as_str(), user.number));
        let names: BTreeSet<&str> =
            named.clone().map(|(name, _)| name).chain(groups.iter().map(String::as_str)).collect();
        let fixed = |name: &str| named.clone().find(|(n, _)| *n == name).and_then(|(_, n)| n);
        for user in users.iter().filter_map(|user| user.group.as_deref()) {
            self.add_static(user);
        }
        // What is fixed comes first, so that nobody else gets its number.
        let (with, without): (Vec<&str>, Vec<&str>) = names
            .into_iter()
            .filter(|name| !self.add_static(name))
            .partition(|name| fixed(name).is_some());
        for name in with.into_iter().chain(without) {
            let wanted = users.iter().find(|user| user.name == name);
            let same = self.group(name).map(|group| group.number);
            let number = fixed(name).or(same).unwrap_or_else(|| self.free());
            let own_group = wanted.is_none_or(|user| user.group.is_none());
            let asked = groups.iter().any(|group| group == name);
            if (own_group || asked) && self.group(name).is_none() {
                self.groups.push(Group::new(name, number));
            }
            let Some(wanted) = wanted.filter(|_| self.user(name).is_none()) else { continue };
            self.users.push(User {
                name: name.to_owned(),
                password: "x".to_owned(),
                number,
                group: number,
                comment: wanted.comment.clone(),
                home: wanted.home.clone(),
                shell: wanted.shell.clone(),
            });
        }
        // Groups of others are known by now.
        for wanted in users {
            let group = wanted.group.as_deref().and_then(|name| self.group(name)).cloned();
            let user = self.users.iter_mut().find(|user| user.name == wanted.name);
            if let (Some(group), Some(user)) = (group, user) {
                user.group = group.number;
            }
        }
    }

    /// Makes a user member of a group; both have to be there.
    pub fn join_group(&mut self, user: &str, group: &str) {
        self.add_static(group);
        if let Some(group) = self.groups.iter_mut().find(|known| known.name == group)
            && !group.members.iter().any(|member| member == user)
        {
            group.members.push(user.to_owned());
        }
    }

    /// Adds the user and the group of that name if the distribution knows them.
    fn add_static(&mut self, name: &str) -> bool {
        let group = STATIC_GROUPS.iter().find(|(known, _)| *known == name);
        let user = STATIC_USERS.iter().find(|(known, ..)| *known == name);
        if let Some((_, number)) = group
            && self.group(name).is_none()
        {
            self.groups.push(Group::new(name, *number));
        }
        if let Some((_, number, group, home)) = user
            && self.user(name).is_none()
        {
            self.users.push(User {
                name: name.to_owned(),
                password: "x".to_owned(),
                number: *number,
                group: *group,
                comment: name.to_owned(),
                home: (*home).to_owned(),
                shell: "/usr/sbin/nologin".to_owned(),
            });
        }
        group.is_some() || user.is_some()
    }

    fn free(&self) -> u64 {
        let taken: BTreeSet<u64> = self
            .users
            .iter()
            .flat_map(|user| [user.number, user.group])
            .chain(self.groups.iter().map(|group| group.number))
            .collect();
        NUMBERS.into_iter().find(|number| !taken.contains(number)).unwrap_or(*NUMBERS.end())
    }

    /// The numbers of `user:group`, of `user`, or of `:group` beside the user `now` has.
    /// Names that only the distribution knows are added.
    pub fn owner(&mut self, text: &str, now: (u64, u64)) -> Option<(u64, u64)> {
        let (user, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
        self.add_static(user);
        let number = match user {
            "" => now.0,
            user => user.parse().ok().or_else(|| self.user(user).map(|user| user.number))?,
        };
        let group = match group {
            None => now.1,
            Some("") => self.user(user)?.group,
            Some(group) => {
                self.add_static(group);
                group.parse().ok().or_else(|| self.group(group).map(|group| group.number))?
            }
        };
        Some((number, group))
    }

    /// The text of `etc/passwd`.
    pub fn passwd(&self) -> String {
        let line = |user: &User| {
            let User { name, password, number, group, comment, home, shell } = user;
            format!("{name}:{password}:{number}:{group}:{comment}:{home}:{shell}\n")
        };
        let others = self.others[0].iter().map(|line| format!("{line}\n"));
        self.users.iter().map(line).chain(others).collect()
    }

    /// The text of `etc/group`.
    pub fn group_file(&self) -> String {
        let line = |group: &Group| {
            let Group { name, password, number, members } = group;
            format!("{name}:{password}:{number}:{}\n", members.join(","))
        };
        let others = self.others[1].iter().map(|line| format!("{line}\n"));
        self.groups.iter().map(line).chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str, group: Option<&str>) -> Wanted {
        Wanted {
            name: name.into(),
            number: None,
            group: group.map(str::to_owned),
            comment: String::new(),
            home: format!("/var/lib/{name}"),
            shell: "/usr/sbin/nologin".into(),
        }
    }

    #[test]
    fn numbers_depend_on_names_only() {
        let build = |users: &[Wanted]| {
            let mut accounts = Accounts::default();
            accounts.add(users, &["memcache".into(), "_ssh".into()]);
            accounts
        };
        let users = [wanted("redis", None), wanted("memcache", Some("memcache"))];
        let one = build(&users);
        let mut reversed = users.to_vec();
        reversed.reverse();
        assert_eq!(build(&reversed), one);
        assert_eq!(one.group("_ssh").unwrap().number, 101);
        let memcache = one.user("memcache").unwrap();
        assert_eq!((memcache.number, memcache.group), (102, 102));
        let redis = one.user("redis").unwrap();
        assert_eq!((redis.number, redis.group), (103, 103));
        // What comes later leaves them alone.
        let mut later = one.clone();
        later.add(&[wanted("a", Some("nogroup"))], &[]);
        assert_eq!(later.user("redis"), one.user("redis"));
        assert_eq!(later.user("a").unwrap().group, 65534);
        assert_eq!(later.user("a").unwrap().number, 104);
        assert!(later.group("a").is_none());
    }

    #[test]
    fn the_distribution_has_numbers_of_its_own() {
        let mut accounts = Accounts::default();
        assert_eq!(accounts.owner("www-data:adm", (0, 0)), Some((33, 4)));
        assert_eq!(accounts.owner(":shadow", (7, 0)), Some((7, 42)));
        assert_eq!(accounts.owner("65532", (0, 9)), Some((65532, 9)));
        assert_eq!(accounts.owner("nobody-knows", (0, 0)), None);
        assert!(accounts.passwd().contains("www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin"));
        let again = Accounts::parse(&accounts.passwd(), &accounts.group_file());
        assert_eq!(again, accounts);
    }
}
