use super::*;
use crate::model::Platform;

fn probes(path: &str, text: &str) -> Probes {
    assert!(is_probe_file(path.rsplit('/').next().unwrap(), path), "{path}");
    Probes::from_files(&BTreeMap::from([(path.to_owned(), text.to_owned())]))
}

/// The sentences about what nobody explained.
fn told<const N: usize>(all: [(&str, Probes); N]) -> Vec<String> {
    let all: BTreeMap<Platform, Probes> =
        all.into_iter().map(|(platform, probes)| (platform.parse().unwrap(), probes)).collect();
    let differences = differences(&all, |probe| explained(probe).is_some());
    differences.iter().map(ToString::to_string).collect()
}

fn lines(probes: &Probes) -> String {
    probes.found.iter().map(|(name, value)| format!("{name} = {value}\n")).collect()
}

fn assert_neutral(probes: &Probes) {
    for (name, value) in &probes.found {
        for part in ["/home", "/usr", "aarch64", "x86_64-", "-linux"] {
            assert!(!name.contains(part) && !value.contains(part), "{name} = {value}");
        }
    }
}

const LIBSODIUM: [(&str, &str); 3] = [
    ("linux/amd64", include_str!("samples/libsodium-amd64.log")),
    ("linux/arm64", include_str!("samples/libsodium-arm64.log")),
    ("linux/arm/v7", include_str!("samples/libsodium-arm-v7.log")),
];

/// Both configured by CMake 3.25 without a word that they are cross builds, on amd64.
const ZEROMQ: [(&str, &str); 2] = [
    ("linux/amd64", include_str!("samples/zeromq-amd64.txt")),
    ("linux/arm64", include_str!("samples/zeromq-arm64.txt")),
];

#[test]
fn what_the_platform_does_not_explain_is_told() {
    let all = ZEROMQ.map(|(platform, text)| (platform, probes("build/CMakeCache.txt", text)));
    let told = told(all);
    assert_eq!(
        told,
        [
            "RT_LIBRARY found on linux/amd64, not on linux/arm64",
            "ZMQ_HAVE_EVENTFD_CLOEXEC found on linux/amd64, not on linux/arm64",
            "ZMQ_HAVE_GETRANDOM found on linux/amd64, not on linux/arm64",
            "ZMQ_HAVE_SOCK_CLOEXEC found on linux/amd64, not on linux/arm64",
            "ZMQ_HAVE_SO_KEEPALIVE found on linux/amd64, not on linux/arm64",
            "ZMQ_HAVE_TCP_KEEPCNT found on linux/amd64, not on linux/arm64",
            "ZMQ_HAVE_TCP_KEEPIDLE found on linux/amd64, not on linux/arm64",
            "ZMQ_HAVE_TCP_KEEPINTVL found on linux/amd64, not on linux/arm64",
        ]
    );
}

#[test]
fn what_the_platform_explains_is_not() {
    let all = LIBSODIUM.map(|(platform, text)| (platform, probes("config.log", text)));
    let [(_, amd64), (_, arm64), (_, arm)] = &all;
    assert_eq!(amd64.found["HAVE_EMMINTRIN_H"], "yes");
    assert_eq!(arm64.found["HAVE_ARMCRYPTO"], "yes");
    assert!(!arm.found.contains_key("HAVE_TI_MODE"));
    assert_eq!(told(all), Vec::<String>::new());
}

#[test]
fn caches_of_autoconf_are_read() {
    let probes = probes("config.log", LIBSODIUM[1].1);
    assert_neutral(&probes);
    let value = |name: &str| probes.found.get(name).map(String::as_str);
    assert_eq!(value("ac_cv_func_getrandom"), Some("yes"));
    assert_eq!(value("ac_cv_func_elf_aux_info"), Some("no"));
    assert_eq!(value("ac_cv_tls"), Some("thread_local"));
    assert_eq!(value("ac_cv_prog_cc_c23"), Some("-std=gnu23"));
    assert_eq!(value("lt_cv_prog_compiler_pic"), Some("-fPIC -DPIC"));
    assert_eq!(value("libtool builds shared libraries"), Some("yes"));
    assert_eq!(value("libtool builds static libraries"), Some("yes"));
    assert_eq!(value("HAVE_INLINE_ASM"), Some("yes"));
    // Told by a variable, by the machine that builds, or of no effect.
    for name in [
        "HAVE_GETRANDOM",
        "PACKAGE_NAME",
        "VERSION",
        "ac_cv_build",
        "ac_cv_host",
        "ac_cv_env_CC_value",
        "ac_cv_path_SED",
        "ac_cv_prog_CC",
        "ax_cv_check_cflags___Werror",
    ] {
        assert_eq!(value(name), None, "{name}");
    }
}

#[test]
fn macros_without_a_value_are_defined() {
    let text = "## confdefs.h. ##\n#define HAVE_OPENSSL /**/\n#define TLS\n#define NO 0\n\
                #define PATH \"/etc/x:/var/y\"\n#define BLANK  \n";
    let probes = probes("config.log", text);
    let found: Vec<_> = probes.found.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(
        found,
        [
            ("BLANK", "yes"),
            ("HAVE_OPENSSL", "yes"),
            ("NO", "no"),
            ("PATH", "<path>:<path>"),
            ("TLS", "yes")
        ]
    );
}

#[test]
fn caches_of_cmake_are_read() {
    let found = probes("build/CMakeCache.txt", include_str!("samples/zeromq-4.4-arm64.txt"));
    assert_neutral(&found);
    insta::assert_snapshot!(lines(&found), @r"
    CC_HAS_TAUT_WARNING = yes
    CMAKE_HAVE_LIBC_PTHREAD = yes
    CXX_HAS_TAUT_WARNING = yes
    HAVE_EPOLL_CLOEXEC = yes
    HAVE_FLAG_-pedantic = yes
    HAVE_KQUEUE = no
    LIBBSD_FOUND = no
    RT_LIBRARY = yes
    Threads_FOUND = yes
    ZMQ_HAVE_NOEXCEPT = yes
    ZMQ_HAVE_PTHREAD_SETNAME_2 = yes
    ZMQ_HAVE_STRLCPY = no
    ");

    let text = "//Result of try_run()\nRUNS:INTERNAL=255\n\
                //Result of TRY_COMPILE\nBUILDS:INTERNAL=FALSE\n\
                //CHECK_TYPE_SIZE: sizeof(long)\nLONG:INTERNAL=8\n\
                //No help, variable specified on the command line.\nHAVE_PRESET:UNINITIALIZED=1\n\
                //Where zlib is\nZLIB_LIBRARY_RELEASE:FILEPATH=/usr/lib/libz.so\n\
                //The directory containing a CMake configuration file for fmt.\n\
                fmt_DIR:PATH=fmt_DIR-NOTFOUND\n\
                //Details about finding ZLIB\n\
                FIND_PACKAGE_MESSAGE_DETAILS_ZLIB:INTERNAL=[/usr/lib/libz.so][c ][v1.2.13()]\n\
                //Test the:colon\n\"the:colon\":INTERNAL=1\n\
                SODIUM_VERSION:INTERNAL=1.0.18\n__pkg_config_checked_SODIUM:INTERNAL=1\n\
                //Path to a program.\nPERL:FILEPATH=/usr/bin/perl\n\
                OTHER_VERSION:INTERNAL=3\n";
    insta::assert_snapshot!(lines(&probes("CMakeCache.txt", text)), @r"
    BUILDS = no
    HAVE_PRESET = yes
    LONG = 8
    RUNS = exit code 255
    SODIUM_VERSION = 1.0.18
    ZLIB_FOUND = 1.2.13
    ZLIB_LIBRARY_RELEASE = yes
    fmt_DIR = no
    the:colon = yes
    ");
}

#[test]
fn logs_of_meson_are_read() {
    let text = include_str!("samples/meson-arm64.txt");
    let found = probes("meson-logs/meson-log.txt", text);
    insta::assert_snapshot!(lines(&found), @r#"
    "lock-free 64 bit atomics" links = yes
    "sync builtin" compiles = yes
    C arguments -fno-plt = yes
    C arguments -mavx2 = no
    C function attribute constructor = yes
    C link arguments -Wl,-z,now = yes
    C++ arguments -std=c++20 = yes
    alignment of "double" = 8
    define "__GNUC__" = 4
    define "__linux__" exists = yes
    dependency libzmq = no
    dependency nopenope = no
    dependency openssl = no
    dependency threads = yes
    dependency zlib = no
    function "accept4" = no
    function "arc4random_nope" = no
    function "getrandom" = yes
    function "memfd_create" = yes
    function "pthread_setname_np" with dependency threads = yes
    function "strlcpy" = no
    header "emmintrin.h" = yes
    header "sys/eventfd.h" = yes
    header "sys/socket.h" has symbol "SO_KEEPALIVE" = yes
    int of "sizeof(void*)" = 8
    library m = yes
    library nope = no
    library z = no
    size of "long" = 8
    type "__int128" = yes
    type "struct sockaddr_un" = yes
    type "struct stat" has member "st_mtim" = yes
    type "struct tm" has members "tm_gmtoff", "tm_zone" = yes
    usable header "windows.h" = no
    "#);

    let text = "Run-time dependency openssl (modules: OpenSSL::Crypto) found: YES 3.0.19\n\
                Dependency zlib for host machine found: YES 1.2.13 (cached)\n\
                Dependency qux for build machine found: YES 1\n\
                Dependency bar for host machine from subproject subprojects/bar found: NO\n\
                Checking for function \"x\" : YES (cached)\n\
                Checking if \"a: b\" runs: NO (1)\n\
                Checking if \"c\" runs: DID NOT COMPILE\n\
                Checking if \"d\" runs: skipped: feature x disabled\n\
                Fetching value of define \"E\" : (undefined)\n";
    insta::assert_snapshot!(lines(&probes("meson-logs/meson-log.txt", text)), @r#"
    "a: b" runs = no
    "c" runs = no
    define "E" = no
    dependency bar = no
    dependency openssl (modules: OpenSSL::Crypto) = 3.0.19
    dependency zlib = 1.2.13
    function "x" = yes
    "#);
}

#[test]
fn names_are_the_same_for_every_target_and_run() {
    let check = |path: &str, expected: &str| {
        assert!(is_probe_file(path.rsplit('/').next().unwrap(), path), "{path}");
        assert_eq!(origin(path), expected, "{path}");
    };
    let cargo = "target/aarch64-unknown-linux-gnu/release/build";
    check("config.log", "");
    check("build/CMakeCache.txt", "");
    check("meson-logs/meson-log.txt", "");
    check("lib/zlib/config.log", "lib/zlib");
    check("x-aarch64-linux-gnu/config.log", "<triple>");
    check(&format!("{cargo}/zmq-sys-0123456789abcdef/out/build/CMakeCache.txt"), "zmq-sys");
    check(&format!("{cargo}/zmq-sys/0123456789abcdef/out/build/CMakeCache.txt"), "zmq-sys");
    check(
        &format!("{cargo}/libsodium-sys-stable-0123456789abcdef/out/source/libsodium/config.log"),
        "libsodium-sys-stable/source/libsodium",
    );
    for path in [
        "CMakeFiles/CMakeScratch/TryCompile-x/CMakeCache.txt",
        "target/release/build/zmq-sys-0123456789abcdef/out/build/CMakeCache.txt",
        "cargo-home/registry/src/x/config.log",
        "meson-log.txt",
        "config.status",
    ] {
        assert!(!is_probe_file(path.rsplit('/').next().unwrap(), path), "{path}");
    }
    let path = format!("{cargo}/zmq-sys-0123456789abcdef/out/build/CMakeCache.txt");
    let all = ZEROMQ.map(|(platform, text)| (platform, probes(&path, text)));
    let told = told(all);
    assert_eq!(told[4], "zmq-sys: ZMQ_HAVE_SO_KEEPALIVE found on linux/amd64, not on linux/arm64");
}

#[test]
fn values_are_neutral() {
    let check = |text: &str, expected: &str| assert_eq!(place::neutral(text), expected);
    check("-L/s/lib -lz -I/usr/include", "-L<path> -lz -I<path>");
    check("'/a b/c'", "'<path> b/c'");
    check("/usr/bin/x86_64-linux-gnu-ld -m elf", "<path> -m elf");
    check("x86_64-build-linux-gnu", "<triple>");
    check("armv7-unknown-linux-gnueabihf-ar rc", "<triple> rc");
    check("linux-gnu", "linux-gnu");
    check("s/x/y/", "s/x/y/");
    check("header \"sys/socket.h\"", "header \"sys/socket.h\"");
}

#[test]
fn sentences_fit_the_values() {
    let probes = |values: &[(&str, &str)]| Probes {
        found: values.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
    };
    let base = [("same", "yes"), ("gone", "no"), ("tls", "_Thread_local"), ("version", "1.2")];
    let mut other = base;
    (other[2].1, other[3].1) = ("no", "1.3");
    assert_eq!(
        told([
            ("linux/amd64", probes(&base)),
            ("linux/arm64", probes(&base[..1])),
            ("linux/s390x", probes(&other)),
        ]),
        [
            "tls is _Thread_local on linux/amd64, not found on linux/arm64 and linux/s390x",
            "version is 1.2 on linux/amd64, 1.3 on linux/s390x, not found on linux/arm64",
        ]
    );
    // What one target does not build is one difference.
    let part = [("same", "yes"), ("x: a", "yes"), ("x: b", "1")];
    assert_eq!(
        told([("linux/amd64", probes(&part)), ("linux/arm64", probes(&part[..1]))]),
        ["x found on linux/amd64, not on linux/arm64"]
    );
}

#[test]
fn two_answers_are_both_kept() {
    let text = "Checking for function \"x\" : YES\nChecking for function \"x\" : NO\n\
                Checking for function \"x\" : YES\n";
    assert_eq!(probes("meson-logs/meson-log.txt", text).found["function \"x\""], "no / yes");
}

#[test]
fn only_the_cpu_and_the_abi_explain() {
    for probe in [
        "SIZEOF_LONG",
        "ac_cv_sizeof_long",
        "ac_cv_alignof_double",
        "size of \"long\"",
        "alignment of \"double\"",
        "int of \"sizeof(void*)\"",
        "ac_cv_c_bigendian",
        "ac_cv_sys_file_offset_bits",
        "_FILE_OFFSET_BITS",
        "_TIME_BITS",
        "ac_cv_c_char_unsigned",
        "HAVE_SSE4_1",
        "HAVE_FLAG_-mavx2",
        "ac_cv_header_emmintrin_h",
        "header \"arm_neon.h\"",
        "zmq-sys: HAVE_CPUID",
        "C arguments -mavx2",
        "type \"__int128\"",
        "HAVE_TI_MODE",
        "HAVE_LIBATOMIC",
        "ac_cv_lib_atomic___atomic_load_8",
        "\"lock-free 64 bit atomics\" links",
        "C arguments -fcf-protection=full",
        "HAVE_AMD64_ASM",
        "ac_cv_c_stack_direction",
    ] {
        assert!(explained(probe).is_some(), "{probe}");
    }
    for probe in [
        "ZMQ_HAVE_SO_KEEPALIVE",
        "ZMQ_HAVE_SOCK_CLOEXEC",
        "ac_cv_func_getrandom",
        "ZMQ_HAVE_PTHREAD_SETNAME_2",
        "ZMQ_HAVE_EVENTFD",
        "HAVE_ALARM",
        "HAVE_ASSERT_H",
        "HAVE_ENDIAN_H",
        "ac_cv_func_fma",
        "ac_cv_func_mremap",
        "HAVE_EVP_AES_128_CTR",
        "HAVE_SYS_AUXV_H",
        "HAVE_ATOMIC_OPS",
        "C arguments -mfoo-bar",
        "arm-tools: HAVE_EVENTFD",
        "libtool builds shared libraries",
    ] {
        assert_eq!(explained(probe), None, "{probe}");
    }
}

#[test]
fn stars_stand_for_anything() {
    for (pattern, text) in [("*", ""), ("a*", "a"), ("*b*", "abc"), ("a*c", "abbc"), ("é*", "éa")]
    {
        assert!(matches(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in [("", "a"), ("a", "ab"), ("a*c", "ab"), ("*b", "bc")] {
        assert!(!matches(pattern, text), "{pattern} {text}");
    }
}
