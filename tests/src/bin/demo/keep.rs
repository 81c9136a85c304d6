//! `--keep`: the fleet goes on running, and one learns how to get in and what to try.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use holdfast_tests::fleet::{Fleet, HUB, binary_dir};

use crate::show::Show;
use crate::story::{NODES, POLICY};

/// `cargo xtask` ends it before that.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Says what to try, and returns only if the hub ends. Ctrl-C ends the demo and with it the whole world.
pub(crate) fn until_interrupted(show: &Show, mut fleet: Fleet) -> Result<()> {
    show.title("It goes on running until you press Ctrl-C.");
    if fleet.world.has_networks() {
        let rc = write_rc(&fleet)?;
        show.note("In another terminal, step into its world:");
        show.output(&enter(&rc));
        show.note("There, for example:");
        show.output(&tries(&fleet)?);
    } else {
        show.note("In another terminal, for example:");
        show.output(&format!("{}\nholdfast node list", environment(&fleet)?));
    }
    for host in [HUB].iter().chain(&NODES) {
        show.note(&format!(
            "files and logs of {host}: {}",
            fleet.world.dir(host).display()
        ));
    }
    let status = fleet.hub()?.wait(LIMIT)?;
    bail!("the hub ended with {status}; {}", fleet.hub()?.tail())
}

/// How to get in from outside, where neither its mounts nor its process ids can be seen.
fn enter(rc: &Path) -> String {
    let by_user = std::env::var("HOLDFAST_WORLD").as_deref() == Ok("user");
    let users = if by_user {
        " --user --preserve-credentials"
    } else {
        ""
    };
    format!(
        "nsenter --target \"$(pgrep -n holdfast-demo)\"{users} --mount --net --pid bash --rcfile {}",
        rc.display()
    )
}

fn tries(fleet: &Fleet) -> Result<String> {
    let db = fleet.world.v4("db");
    let policy = Path::new(POLICY)
        .canonicalize()
        .with_context(|| format!("cannot find {POLICY}"))?;
    let policy = policy.display();
    Ok(format!(
        "on hub holdfast node list
on hub holdfast policy plan {policy}
on db nft list table inet holdfast
on db nft flush table inet holdfast               # look again three seconds later
on gateway timeout 2 bash -c '</dev/tcp/{db}/5432'  # no answer
on web timeout 2 bash -c '</dev/tcp/{db}/5432'      # open"
    ))
}

/// A start-up file for a shell in the world: where things are, and `on HOST COMMAND`.
#[expect(
    clippy::disallowed_methods,
    reason = "a file for a shell, which need not survive a crash"
)]
fn write_rc(fleet: &Fleet) -> Result<PathBuf> {
    let mut rc = environment(fleet)?;
    rc.push_str("\nPS1='demo# '\non() {\n  case $1 in\n");
    for host in [HUB].iter().chain(&NODES) {
        let network = fleet.world.network(host)?;
        writeln!(
            rc,
            "    {host}) shift; nsenter --net={} -- \"$@\" ;;",
            network.display()
        )?;
    }
    rc.push_str("    *) echo \"on HOST COMMAND, where HOST is one of hub gateway web db\" >&2; return 2 ;;\n  esac\n}\n");
    let path = fleet.world.dir(HUB).join("rc");
    std::fs::write(&path, rc).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn environment(fleet: &Fleet) -> Result<String> {
    Ok(format!(
        "export HOLDFAST_OPERATOR_DIR={} PATH={}:$PATH:/usr/sbin:/sbin",
        fleet.operator_dir().display(),
        binary_dir()?.display()
    ))
}
