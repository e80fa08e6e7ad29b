//! Wrong headers, libraries and settings where a compiler or a `configure` of the machine
//! would look, while a test runs.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What each file begins with; one that a killed test left is known by it.
const MARK: &str = "made by a test of xstitch, to be removed";

/// Files of the machine that are not the build's. They are removed with this, whatever
/// becomes of the test; what was there before is left alone.
pub struct ForeignFiles {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

impl ForeignFiles {
    /// Puts wrong ones of everything that the libraries are found by to every default place.
    pub fn put(headers: &[&str], libraries: &[&str]) -> Self {
        let mut all = Self { files: Vec::new(), folders: Vec::new() };
        let gnu = format!("{}-linux-gnu", std::env::consts::ARCH);
        for folder in ["/usr/include", "/usr/local/include", &format!("/usr/include/{gnu}")] {
            for name in headers {
                all.file(
                    &format!("{folder}/{name}"),
                    &format!("/* {MARK} */\n#error a header of the machine\n"),
                );
            }
        }
        for folder in ["/usr/lib", "/usr/local/lib", &format!("/usr/lib/{gnu}")] {
            for name in libraries {
                for ending in ["so", "a"] {
                    let text = format!("/* {MARK} */\nINPUT(-la-library-of-the-machine)\n");
                    all.file(&format!("{folder}/lib{name}.{ending}"), &text);
                }
                let text = format!(
                    "# {MARK}\nName: {name}\nDescription: wrong\nVersion: 99\n\
                     Cflags: -DFROM_THE_MACHINE\nLibs: -la-library-of-the-machine\n"
                );
                all.file(&format!("{folder}/pkgconfig/{name}.pc"), &text);
            }
        }
        // What every `configure` reads unless it is told of another.
        for file in ["/usr/share/config.site", "/usr/local/share/config.site"] {
            all.file(file, &format!("# {MARK}\nCFLAGS=-DFROM_THE_MACHINE\nexit 1\n"));
        }
        assert!(all.files.len() > libraries.len(), "everything was there before");
        all
    }

    fn file(&mut self, path: &str, text: &str) {
        let path = Path::new(path);
        self.folder(path.parent().unwrap());
        let left = fs::read_to_string(path).is_ok_and(|there| there.contains(MARK));
        let new = fs::File::create_new(path);
        if let Ok(mut file) = new {
            self.files.push(path.to_owned());
            file.write_all(text.as_bytes()).unwrap();
        } else if left {
            self.files.push(path.to_owned());
        }
    }

    fn folder(&mut self, path: &Path) {
        if path.exists() {
            return;
        }
        self.folder(path.parent().unwrap());
        fs::create_dir(path).unwrap();
        self.folders.push(path.to_owned());
    }
}

impl Drop for ForeignFiles {
    fn drop(&mut self) {
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
        // Those in others come first.
        for folder in self.folders.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
}
