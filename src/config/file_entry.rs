//! Entries of `files` of an image, as values.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::capability::Capabilities;
use crate::model::platform::{PLATFORMS, TRIPLES};
use crate::model::template::is_of_platform;
use crate::model::{Place, Platform};

/// Files of the project, a link or a folder that an image has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileEntry {
    /// What.
    pub content: FileContent,
    /// Absolute path in the image, may have names in braces. With `/` at its end it is a folder
    /// that a file is put into.
    pub to: String,
    /// Permission bits of files; otherwise 755 or 644 by a file's execute bit.
    pub mode: Option<u32>,
    /// Permission bits of folders; otherwise 755.
    pub folder_mode: Option<u32>,
    /// Numbers of the user and group of files, links and folders; otherwise 0 and 0.
    pub owner: Option<(u64, u64)>,
    /// What is left out of folders, as ignore files say it.
    pub exclude: Vec<String>,
    /// Capabilities of the files.
    pub capabilities: Option<Capabilities>,
    /// Paths in the project that may be secrets.
    pub allow_secrets: Vec<String>,
    /// Where it is declared.
    pub place: Place,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum FileContent {
    /// Copies of files of the project.
    Copy(FileSource),
    /// A symbolic link and its text.
    Link(String),
    /// A folder.
    Folder,
}

/// Where in the project files are: a file, a folder or a pattern, each may have names in
/// braces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum FileSource {
    /// The same for all platforms.
    One(String),
    /// By platform or triple.
    Each(BTreeMap<String, String>),
}

impl FileEntry {
    /// Whether it differs between platforms.
    pub fn is_of_platform(&self) -> bool {
        let texts = match &self.content {
            FileContent::Copy(FileSource::Each(_)) => return true,
            FileContent::Copy(FileSource::One(text)) | FileContent::Link(text) => [text, &self.to],
            FileContent::Folder => [&self.to, &self.to],
        };
        texts.iter().any(|text| is_of_platform(text))
    }

    /// All texts that may have names in braces.
    pub fn templates(&self) -> Vec<&String> {
        let mut texts = vec![&self.to];
        match &self.content {
            FileContent::Copy(FileSource::Each(each)) => texts.extend(each.values()),
            FileContent::Copy(FileSource::One(text)) | FileContent::Link(text) => texts.push(text),
            FileContent::Folder => {}
        }
        texts
    }
}

impl FileSource {
    /// Where the files are for a platform and its triple.
    pub fn of(&self, platform: &str, triple: &str) -> Option<&str> {
        match self {
            Self::One(text) => Some(text),
            Self::Each(each) => each.get(platform).or_else(|| each.get(triple)).map(String::as_str),
        }
    }

    /// Those of the platforms that have none.
    pub fn missing<'a>(&self, platforms: &'a [Platform]) -> Vec<&'a Platform> {
        let has = |platform: &&Platform| {
            let name = platform.to_string();
            let index = PLATFORMS.iter().position(|known| *known == name);
            self.of(&name, index.map_or("", |index| TRIPLES[index])).is_none()
        };
        platforms.iter().filter(has).collect()
    }
}
