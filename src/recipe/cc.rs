//! Libraries of plain sources: one compiler call each, one link.

use super::environment::{Cross, library_folder};
use super::native::{Native, quoted};
use crate::config::Kind;
use crate::model::action::LibraryProduct;

/// The script that compiles one source file, relative to the start of the build.
pub fn compiler(cross: &Cross<'_>, kind: &Kind, more: &[String]) -> String {
    let Kind::Cc { flags, include, .. } = kind else { return String::new() };
    let include = include.iter().map(|folder| format!("-I{folder}"));
    let flags: Vec<String> = cross
        .target
        .default_cflags
        .iter()
        .chain(more)
        .chain(flags)
        .cloned()
        .chain(include)
        .map(|flag| quoted(&flag))
        .collect();
    format!(
        "#!/bin/sh\nset -eu\ncase \"$1\" in *.cc|*.cpp|*.cxx|*.C) compiler=$CXX ;; *) compiler=$CC ;; esac\n\
         echo \"compile $1\"\nexec \"$compiler\" {} -fPIC -c \"$1\" -o \"@{{build}}/work/$(echo \"$1\" | tr / +).o\"\n",
        flags.join(" ")
    )
}

/// Scripts that compile, link, archive and install.
pub fn steps(cross: &Cross<'_>, native: &Native<'_>, product: &LibraryProduct) -> Vec<String> {
    let Kind::Cc { sources, ldflags, install, soname, .. } = native.kind else {
        return Vec::new();
    };
    let name = product.libraries.first().map_or("", String::as_str);
    let soname = soname.clone().unwrap_or_else(|| format!("lib{name}.so"));
    let start = quoted(&native.start);
    let mut steps = vec![format!(
        "cd {start}\nfor file in {}; do\n  if test ! -f \"$file\"; then echo \"no file matches $file\"; \
         exit 1; fi\n  printf '%s\\0' \"$file\"\ndone > '@{{build}}/files'\n\
         xargs -0 -n 1 -P @{{jobs}} '@{{tools}}/compile' < '@{{build}}/files'",
        sources.join(" ")
    )];
    let stage = format!("@{{build}}/stage/{}", library_folder(cross.target));
    let mut link = format!("mkdir -p '{stage}'\ncd '@{{build}}/work'\n");
    if product.shared {
        let ldflags: Vec<String> = ldflags.iter().map(|flag| quoted(flag)).collect();
        link.push_str(&format!(
            "if ls | grep -q -E '\\.(cc|cpp|cxx|C)\\.o$'; then linker=$CXX; else linker=$CC; fi\n\
             \"$linker\" -shared -Wl,-soname,{soname} -o '{stage}/{soname}' *.o {}\n\
             test -e '{stage}/lib{name}.so' || ln -s {soname} '{stage}/lib{name}.so'\n",
            ldflags.join(" ")
        ));
    }
    if product.archives {
        link.push_str(&format!("\"$AR\" rcs '{stage}/lib{name}.a' *.o\n"));
    }
    steps.push(link);
    steps.push(format!("cd {start}\n{}", install_headers(install)));
    steps.push(package_file(cross, name, ldflags));
    steps
}

/// A script that installs header files and the contents of folders, from where it runs.
pub fn install_headers(headers: &[String]) -> String {
    let mut script = "mkdir -p '@{build}/stage/usr/include'\n".to_owned();
    for header in headers {
        let header = quoted(header);
        script.push_str(&format!(
            "if test -d {header}; then cp -R {header}/. '@{{build}}/stage/usr/include'\n\
             else cp {header} '@{{build}}/stage/usr/include'; fi\n"
        ));
    }
    script
}

/// A script that writes what pkg-config says about the library.
pub fn package_file(cross: &Cross<'_>, name: &str, libraries: &[String]) -> String {
    let folder = library_folder(cross.target);
    let text = format!(
        "prefix=/usr\nlibdir=/{folder}\nincludedir=${{prefix}}/include\n\nName: {name}\n\
         Description: {name}\nVersion: 0\nLibs: -L${{libdir}} -l{name}\nLibs.private: {}\n\
         Cflags: -I${{includedir}}\n",
        libraries.join(" ")
    );
    let place = format!("@{{build}}/stage/{folder}/pkgconfig");
    format!("mkdir -p '{place}'\nprintf '%s' {} > '{place}/{name}.pc'", quoted(&text))
}
