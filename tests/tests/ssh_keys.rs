//! Keys behind an ssh-agent as operators' signing keys. What a signature is, OpenSSH says; what a hub is made of, the
//! operator's command and the files that it leaves.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use holdfast_pki::authority::{Authority, AuthorityPin, TrustedAuthority};
use holdfast_pki::envelope::{Algorithm, Envelope, signed_bytes};
use holdfast_pki::ssh_key::SshPublicKey;
use holdfast_pki::sshsig;
use holdfast_pki::sshsig_testing::{SshKey, TOUCHED, VERIFIED};
use holdfast_proto::payload::Payload as _;
use holdfast_tests::fleet::{Fleet, HUB, binary};
use holdfast_tests::need;
use holdfast_tests::openssh::OpenSsh;
use holdfast_tests::operator::Operator;
use holdfast_tests::process::{self, Outcome};
use holdfast_tests::stage::{FILE, NEW, OLD};
use holdfast_tests::token_agent::{TokenAgent, User};
use serde_json::Value;

/// A signed document's bytes, which are text.
fn message(kind: &str) -> String {
    String::from_utf8(signed_bytes(kind, br#"{"kind":"any"}"#)).expect("text")
}

fn public(private: &Path) -> Result<SshPublicKey> {
    let line = std::fs::read_to_string(private.with_extension("pub"))?;
    Ok(line.parse()?)
}

#[test]
fn what_openssh_signs_for_us_verifies_here_and_nothing_else() -> Result<()> {
    need!(openssh);
    let openssh = OpenSsh::new()?;
    let file = openssh.make_key("ann", "ed25519")?;
    let ann = public(&file)?;
    let eve = public(&openssh.make_key("eve", "ed25519")?)?;
    let signed = message("release");
    let verify = |key: &SshPublicKey, kind: &str, signature: &[u8]| {
        Algorithm::SshsigEd25519.verify(key.blob(), message(kind).as_bytes(), signature)
    };
    for hash in ["sha512", "sha256"] {
        let signature = openssh.sign(&file, sshsig::NAMESPACE, hash, &signed)?;
        assert!(verify(&ann, "release", &signature), "{hash}");
        assert!(!verify(&eve, "release", &signature), "another key");
        assert!(!verify(&ann, "authority", &signature), "another kind");
        let elsewhere = openssh.sign(&file, "file", hash, &signed)?;
        assert!(!verify(&ann, "release", &elsewhere), "another namespace");
    }
    Ok(())
}

#[test]
fn openssh_takes_what_we_assemble_for_keys_in_software_and_on_a_token() -> Result<()> {
    need!(openssh);
    let openssh = OpenSsh::new()?;
    let signed = message("release");
    for key in [SshKey::software(), SshKey::token()] {
        let signature = key.sshsig(signed.as_bytes());
        assert!(openssh.accepts(key.public(), sshsig::NAMESPACE, &signed, &signature)?);
        assert!(!openssh.accepts(key.public(), sshsig::NAMESPACE, &message("authority"), &signature)?);
        assert!(!openssh.accepts(key.public(), "file", &signed, &signature)?);
    }
    Ok(())
}

/// OpenSSH 9.2 does not look at the flag when it verifies a file's signature; sshd does at a login.
#[test]
fn token_that_was_not_touched_is_refused_whatever_openssh_says() -> Result<()> {
    need!(openssh);
    let openssh = OpenSsh::new()?;
    let signed = message("release");
    let key = SshKey::token();
    for (flags, touched) in [
        (TOUCHED, true),
        (TOUCHED | VERIFIED, true),
        (VERIFIED, false),
        (0, false),
    ] {
        let inner = key.answer(&sshsig::signed_data(signed.as_bytes()), flags);
        let signature = sshsig::assemble(key.public(), &inner);
        let here = Algorithm::SshsigSkEd25519.verify(key.public().blob(), signed.as_bytes(), &signature);
        assert_eq!(here, touched, "flags {flags:#04x}");
        let there = openssh.accepts(key.public(), sshsig::NAMESPACE, &signed, &signature)?;
        assert!(there || !touched, "OpenSSH refuses flags {flags:#04x}");
    }
    Ok(())
}

/// We may be stricter than OpenSSH, never laxer.
#[test]
fn what_openssh_refuses_of_a_damaged_signature_we_refuse_too() -> Result<()> {
    need!(openssh);
    let openssh = OpenSsh::new()?;
    let signed = message("release");
    let key = SshKey::token();
    let good = key.sshsig(signed.as_bytes());
    let mut both_refused = 0;
    for at in (0..good.len()).step_by(9) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        let here = Algorithm::SshsigSkEd25519.verify(key.public().blob(), signed.as_bytes(), &bad);
        let there = openssh.accepts(key.public(), sshsig::NAMESPACE, &signed, &bad)?;
        assert!(there || !here, "byte {at} is taken here alone");
        both_refused += u32::from(!there && !here);
    }
    assert!(both_refused > 10, "OpenSSH refuses damage: {both_refused}");
    Ok(())
}

/// `holdfast init` in a place of its own.
struct Init {
    place: tempfile::TempDir,
}

impl Init {
    fn new() -> Result<Self> {
        Ok(Self {
            place: tempfile::tempdir()?,
        })
    }

    fn run(&self, ssh_key: &str, agent: Option<&Path>) -> Result<Outcome> {
        let mut init = process::command(binary("holdfast")?);
        init.arg("init").arg("--dir").arg(self.place.path().join("hub"));
        init.arg("--operator-dir").arg(self.place.path().join("operator"));
        init.args(["--trust-domain", "lab.example", "--ssh-key", ssh_key]);
        init.args(["--listen", "127.0.0.1:8443", "--advertise", "127.0.0.1:8443"]);
        match agent {
            Some(socket) => init.env("SSH_AUTH_SOCK", socket),
            None => init.env_remove("SSH_AUTH_SOCK"),
        };
        process::run(&init, Duration::from_secs(60), "")
    }

    fn context(&self) -> PathBuf {
        self.place.path().join("operator/contexts/lab.example")
    }

    fn json(&self, name: &str) -> Result<Value> {
        let path = self.context().join(name);
        let bytes = std::fs::read(&path).with_context(|| format!("no {}", path.display()))?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Authority version 1, verified against the operator's own pin.
    fn authority(&self) -> Result<TrustedAuthority> {
        let pin: AuthorityPin = serde_json::from_value(self.json("context.json")?["authority"].clone())?;
        let chain: Vec<Envelope> = serde_json::from_value(self.json("authority.json")?)?;
        Ok(TrustedAuthority::from_pin(&chain[0], &pin)?)
    }

    fn must_have_made_nothing(&self) {
        for place in [self.place.path().join("hub"), self.context()] {
            assert!(!place.exists(), "{} was left behind", place.display());
        }
    }

    /// A hub was made whose first operator signs with `key` alone.
    fn must_be_signed_with(&self, key: &SshPublicKey) -> Result<()> {
        let authority = self.authority()?;
        let [listed] = &authority.document().keys[..] else {
            anyhow::bail!("more than one key");
        };
        assert_eq!(listed.algorithm, key.key_type().algorithm());
        assert_eq!(listed.public, key.blob());
        let source = self.json("context.json")?["signing"].clone();
        assert_eq!(
            source,
            serde_json::json!({ "kind": "ssh-agent", "public": key.to_string() })
        );
        assert!(
            !self.context().join("signing.key").exists(),
            "a key of our own too"
        );
        Ok(())
    }
}

#[test]
fn hub_made_with_a_key_in_the_ssh_agent_has_its_authority_signed_by_it() -> Result<()> {
    need!(openssh);
    let openssh = OpenSsh::new()?;
    let file = openssh.make_key("ann", "ed25519")?;
    let agent = openssh.agent(&file)?;
    let init = Init::new()?;
    let pub_file = file.with_extension("pub");
    init.run(&pub_file.to_string_lossy(), Some(&agent.socket))?.ok()?;
    let key = public(&file)?;
    init.must_be_signed_with(&key)?;
    let authority = init.authority()?;
    let signed = String::from_utf8(signed_bytes(Authority::KIND, &authority.envelope().payload))?;
    let signature = &authority.envelope().signatures[0].signature;
    assert!(
        openssh.accepts(&key, sshsig::NAMESPACE, &signed, signature)?,
        "OpenSSH"
    );
    Ok(())
}

#[test]
fn hub_made_with_a_token_is_signed_by_a_touch_that_was_asked_for() -> Result<()> {
    let init = Init::new()?;
    let agent = TokenAgent::start(init.place.path(), User::Touches)?;
    let made = init.run(&agent.public().to_string(), Some(&agent.socket))?;
    made.code_is(0)?;
    assert!(made.stderr.contains("touch the token"), "{}", made.stderr);
    init.must_be_signed_with(agent.public())
}

#[test]
fn token_that_signs_without_a_touch_makes_no_hub() -> Result<()> {
    let init = Init::new()?;
    let agent = TokenAgent::start(init.place.path(), User::IsAway)?;
    let refused = init.run(&agent.public().to_string(), Some(&agent.socket))?;
    refused.code_is(1)?;
    assert!(refused.stderr.contains("no-touch-required"), "{}", refused.stderr);
    init.must_have_made_nothing();
    Ok(())
}

#[test]
fn token_whose_touch_does_not_come_makes_no_hub() -> Result<()> {
    let init = Init::new()?;
    let agent = TokenAgent::start(init.place.path(), User::Refuses)?;
    let refused = init.run(&agent.public().to_string(), Some(&agent.socket))?;
    refused.code_is(1)?;
    assert!(refused.stderr.contains("a touch"), "{}", refused.stderr);
    init.must_have_made_nothing();
    Ok(())
}

#[test]
fn without_an_ssh_agent_or_its_key_init_says_what_to_do() -> Result<()> {
    let init = Init::new()?;
    let agent = TokenAgent::start(init.place.path(), User::Touches)?;
    let key = SshKey::software().public().to_string();
    let gone = init.place.path().join("gone");
    for (socket, said) in [
        (None, "SSH_AUTH_SOCK is not set"),
        (Some(gone.as_path()), "is it running?"),
        (Some(agent.socket.as_path()), "add it with `ssh-add FILE`"),
    ] {
        let refused = init.run(&key, socket)?;
        refused.code_is(1)?;
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    init.must_have_made_nothing();
    Ok(())
}

#[test]
fn keys_of_other_types_are_refused_with_those_that_are_taken() -> Result<()> {
    need!(openssh);
    let openssh = OpenSsh::new()?;
    let init = Init::new()?;
    for (key_type, word) in [("rsa", "ssh-rsa"), ("ecdsa", "ecdsa-sha2-nistp256")] {
        let file = openssh.make_key(key_type, key_type)?;
        let refused = init.run(&file.with_extension("pub").to_string_lossy(), None)?;
        refused.code_is(2)?;
        for said in [word, "ssh-ed25519", "sk-ssh-ed25519@openssh.com"] {
            assert!(refused.stderr.contains(said), "{}", refused.stderr);
        }
    }
    Ok(())
}

#[test]
fn release_signed_by_a_touch_is_put_in_force_and_without_one_nothing_is_published() -> Result<()> {
    need!(namespaces);
    let mut fleet = Fleet::new("token")?;
    fleet.add_node("db", &["role=db"])?;
    let agent = TokenAgent::start(&fleet.world.dir(HUB), User::Touches)?;
    let bob = Operator::join_with_token(&fleet, "bob", "operator", &agent)?;
    let apply = |policy: &str| -> Result<Outcome> {
        let dir = fleet.policy_dir("lab", &[(FILE, policy)])?;
        bob.run(
            &fleet,
            &["policy", "apply", &dir.to_string_lossy(), "--wait", "60s"],
        )
    };
    apply(OLD)?.ok()?;
    fleet.wait_for("db", "confirm what the token signed", |node| {
        node.confirmed() == Some((1, 1))
    })?;

    agent.set_user(User::IsAway);
    let refused = apply(NEW)?;
    refused.code_is(1)?;
    assert!(refused.stderr.contains("no-touch-required"), "{}", refused.stderr);
    assert_eq!(
        fleet.node("db")?.accepted(),
        Some((1, 1)),
        "nothing was published"
    );

    agent.set_user(User::Touches);
    apply(NEW)?.ok()?;
    fleet.wait_for("db", "confirm the next", |node| node.confirmed() == Some((1, 2)))?;
    Ok(())
}
