//! What flags, variables and the file come to.

use super::*;

fn settings(text: &str) -> Settings {
    Settings { data: "d".into(), file: toml::from_str(text).expect("valid") }
}

#[test]
fn defaults_are_safe() {
    let serve = settings("").serve(cli::Serve::default()).expect("valid");
    assert!(serve.http.ip().is_loopback());
    assert_eq!(serve.http.port(), 5000);
    assert!(serve.swarm.iter().all(|address| address.contains("/4001")));
    assert_eq!(serve.bootstrap, Bootstrap::Default);
    assert_eq!((serve.cache_limit, serve.store_limit, serve.reserve, serve.history), (None, None, None, 32));
    assert_eq!((serve.upload_expiry, serve.blob_expiry), (DEFAULT_EXPIRY, DEFAULT_EXPIRY));
}

#[test]
fn limits_come_from_the_flag_or_the_file() {
    let file = "cache-limit = \"50GiB\"\nstore-limit = 1000\nreserve = \"0\"\nhistory = 5\nupload-expiry = \"2h\"\n\
                blob-expiry = \"30m\"";
    let serve = settings(file).serve(cli::Serve::default()).expect("valid");
    assert_eq!((serve.cache_limit, serve.store_limit, serve.reserve), (Some(50 << 30), Some(1000), Some(0)));
    assert_eq!((serve.history, serve.upload_expiry.as_secs(), serve.blob_expiry.as_secs()), (5, 7200, 1800));
    let flags = cli::Serve { cache_limit: Some(Size(7)), history: NonZeroUsize::new(1), ..Default::default() };
    let serve = settings(file).serve(flags).expect("valid");
    assert_eq!((serve.cache_limit, serve.store_limit, serve.history), (Some(7), Some(1000), 1));
    for wrong in ["history = 0", "cache-limit = \"50 gigs\"", "reserve = -1", "blob-expiry = \"soon\""] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_file_has_the_listeners_keys() {
    let file = "tls-cert = \"c\"\ntls-key = \"k\"\ntls-client-ca = \"a\"\ntls-client = \"optional\"\n\
                cors = [\"https://ui.example\"]\nmax-connections = 7\nmax-uploads = 5\nmax-downloads = 6\n\
                header-timeout = \"5s\"\nstall-timeout = \"1m\"\nsearch-timeout = \"2m\"";
    let listener = settings(file).serve(cli::Serve::default()).expect("valid").listener;
    assert_eq!(listener.tls.expect("there is TLS").clients, Some(("a".into(), false)));
    assert_eq!(listener.cors.len(), 1);
    assert_eq!((listener.max_connections, listener.max_uploads, listener.max_downloads), (Some(7), Some(5), Some(6)));
    let seconds = [listener.header_timeout, listener.stall_timeout, listener.search_timeout];
    assert_eq!(seconds.map(|time| time.map(|time| time.as_secs())), [Some(5), Some(60), Some(120)]);
    for wrong in ["max-uploads = 0", "tls-client = \"maybe\"", "cors = \"https://ui.example\"", "stall-timeout = 5"] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn who_is_told_what_happens() {
    let file = "metrics = \"127.0.0.1:9100\"\naccess-log = \"stderr\"\naudit-log = \"/a\"\n\
                [[webhook]]\nurl = \"https://a.example/\"\n[[webhook]]\nurl = \"http://b.example/\"";
    let serve = settings(file).serve(cli::Serve::default()).expect("valid");
    assert_eq!(serve.metrics.map(|address| address.port()), Some(9100));
    assert_eq!(serve.access_log, Some(Destination::Stderr));
    assert_eq!(serve.webhooks.iter().map(Hook::host).collect::<Vec<_>>(), ["a.example", "b.example"]);
    let flags = cli::Serve { audit_log: Some(Destination::File("/b".into())), ..Default::default() };
    assert_eq!(settings(file).serve(flags).expect("valid").audit_log, Some(Destination::File("/b".into())));
    let wrong = settings("[[webhook]]\nurl = \"https://a/\"\n[[webhook]]\nurl = \"b\"").serve(cli::Serve::default());
    assert!(wrong.is_err_and(|error| format!("{error:#}").starts_with("webhook 2: ")));
    let none = settings("").serve(cli::Serve::default()).expect("valid");
    assert!(none.metrics.is_none() && none.access_log.is_none() && none.audit_log.is_none());
}

#[test]
fn a_flag_beats_the_file() {
    let file = "http = \"127.0.0.1:1\"\npeer = [\"/ip4/1.1.1.1/tcp/1\"]\nmdns = \"off\"\nbootstrap = [\"none\"]";
    let from_file = settings(file).serve(cli::Serve::default()).expect("valid");
    assert_eq!((from_file.http.port(), from_file.mdns), (1, false));
    assert_eq!(from_file.bootstrap, Bootstrap::None);
    let flags = cli::Serve {
        http: Some(([127, 0, 0, 1], 2).into()),
        mdns: Some(Switch::On),
        peer: vec!["/ip4/2.2.2.2/tcp/2".into()],
        ..Default::default()
    };
    let serve = settings(file).serve(flags).expect("valid");
    assert_eq!((serve.http.port(), serve.mdns, serve.peers.len()), (2, true, 1));
    assert!(serve.peers[0].contains("2.2.2.2"));
}

#[test]
fn what_is_taken_over_http() {
    let serve = settings("").serve(cli::Serve::default()).expect("valid");
    assert_eq!((serve.require_references, serve.deletes, serve.read_only), (false, true, false));
    let file = "require-references = true\nrequire-platforms = [\"linux/amd64\", \"linux/arm/v7\"]\ndeletes = false\n\
                read-only = true";
    let serve = settings(file).serve(cli::Serve::default()).expect("valid");
    assert_eq!((serve.require_references, serve.deletes, serve.read_only), (true, false, true));
    assert_eq!(serve.require_platforms[1].variant.as_deref(), Some("v7"));
    let flags = cli::Serve { require_references: Some(false), deletes: Some(true), ..Default::default() };
    let serve = settings(file).serve(flags).expect("valid");
    assert_eq!((serve.require_references, serve.deletes, serve.read_only), (false, true, true));
    for wrong in ["require-platforms = [\"linux\"]", "require-platforms = [\"linux/amd64\"]"] {
        let error = settings(wrong).serve(cli::Serve::default()).expect_err(wrong);
        assert!(error.to_string().starts_with("--require-platforms "), "{error}");
    }
}

#[test]
fn what_is_blank_names_nothing() {
    let blank = || vec![String::new(), " ".into()];
    let flags = cli::Serve { swarm: blank(), peer: blank(), bootstrap: blank(), ..Default::default() };
    let serve = settings("bootstrap = [\"none\"]").serve(flags).expect("valid");
    assert_eq!((serve.swarm, serve.peers, serve.bootstrap), (default_swarm(), vec![], Bootstrap::None));
}

#[test]
fn every_flag_is_a_key_of_the_file() {
    use clap::CommandFactory;
    let said = parse("not-a-key-at-all = 1").expect_err("it is none").to_string();
    let keys: Vec<_> = said.rsplit(": there are ").next().expect("what there is").split(", ").collect();
    let cli = cli::Cli::command();
    let flags = cli.find_subcommand("serve").expect("there is one").get_arguments().filter_map(clap::Arg::get_long);
    let mut count = 0;
    for flag in flags.filter(|flag| *flag != "help") {
        assert!(keys.contains(&flag), "--{flag} is not among {keys:?}");
        count += 1;
    }
    assert!(count > 30, "{count}");
}

/// What the pages show of the file can be copied from there.
#[test]
fn what_the_pages_show_is_valid() {
    let mut shown = 0;
    for page in [include_str!("../../../../docs/operations.md"), include_str!("../../../../README.md")] {
        for block in page.split("\n```toml\n").skip(1) {
            let block = block.split("\n```").next().expect("its end").replace("Bearer …", "Bearer x");
            let read = parse(&block).and_then(|file| Settings { data: "d".into(), file }.serve(Default::default()));
            assert!(read.is_ok(), "{block}\n{:#}", read.expect_err("an error"));
            shown += 1;
        }
    }
    assert!(shown >= 8, "{shown}");
}

#[test]
fn words_that_are_none_are_refused() {
    assert!(bootstrap(vec!["defualt".into()]).is_err());
    assert!(bootstrap(vec!["none".into(), "/ip4/1.1.1.1".into()]).is_err());
}
