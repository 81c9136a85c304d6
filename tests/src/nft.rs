//! Hands on a host's nftables: what an administrator does there, and what other programs keep there.

use anyhow::Result;

use crate::process::{self, Outcome};
use crate::world::{LIMIT, World};

/// What others keep beside our table: chains on our hooks, a set, a counter, and a filter table such as docker's.
pub const FOREIGN: &str = "
table inet foreign {
    counter seen { }
    set banned { type ipv4_addr; flags timeout; elements = { 203.0.113.7 timeout 1d, 203.0.113.8 }; }
    chain input {
        type filter hook input priority 0; policy accept;
        ip saddr @banned counter drop
        tcp dport 5432 counter name \"seen\" comment \"theirs\"
    }
}
table ip filter {
    chain DOCKER-USER { return; }
    chain DOCKER { ip daddr 172.17.0.2 iifname != \"docker0\" oifname \"docker0\" tcp dport 80 counter accept; }
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        counter jump DOCKER-USER
        oifname \"docker0\" ct state established,related counter accept
        oifname \"docker0\" counter jump DOCKER
    }
}
";

/// Its tables, in the words of nft.
pub const FOREIGN_TABLES: [&str; 2] = ["inet foreign", "ip filter"];

impl World {
    /// Runs `nft WORDS` on `host`.
    ///
    /// # Errors
    /// If it fails, with its complaint.
    pub fn nft(&self, host: &str, words: &str) -> Result<String> {
        let mut nft = vec!["nft"];
        nft.extend(words.split(' '));
        self.run(host, &nft)?.ok()
    }

    /// Loads `rules` on `host`.
    ///
    /// # Errors
    /// If nft refuses.
    pub fn nft_load(&self, host: &str, rules: &str) -> Result<()> {
        let mut nft = self.command(host, "nft");
        nft.args(["-f", "-"]);
        process::run(&nft, LIMIT, rules).and_then(Outcome::ok).map(drop)
    }

    /// The tables of [`FOREIGN`] on `host`, without what packets count, but with handles: made anew they would differ.
    ///
    /// # Errors
    /// If one is gone.
    pub fn foreign_tables(&self, host: &str) -> Result<String> {
        FOREIGN_TABLES
            .iter()
            .map(|table| self.nft(host, &format!("--stateless --handle list table {table}")))
            .collect()
    }

    /// Our table on `host`, with handles, which tell whether it was loaded again.
    ///
    /// # Errors
    /// If there is none.
    pub fn own_table(&self, host: &str) -> Result<String> {
        self.nft(host, "--stateless --handle list table inet holdfast")
    }
}
