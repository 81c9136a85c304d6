//! An operator's session with a hub: what the hub shows is held against what this machine has verified before.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use holdfast_pki::authority::{Act, TrustedAuthority};
use holdfast_pki::clock::Clock;
use holdfast_pki::draft::DraftKind;
use holdfast_pki::envelope::{Envelope, Verified};
use holdfast_policy::release::Manifest;
use holdfast_policy::slice::Slice;
use holdfast_proto::ids::{Digest, Generation};
use holdfast_proto::v1::operator_client::OperatorClient;
use holdfast_proto::{SLICE_BYTES_MAX, SLICE_CHUNK_BYTES_MAX, v1};
use tonic::transport::Channel;

use super::cosign::{Known, Standing};
use super::login::{self, Age};
use super::pins::{self, Epochs, Walked};
use super::signer::Signer;
use super::{Signing, connect, output};
use crate::operator_dir::{Context, ContextDir, SeenRelease};

/// The largest answer of a hub: a page of 500 nodes with their reports.
const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What a hub that shows less than was seen here was told.
const SHOWN: &str =
    "The hub was shown it, and serves no release until the epoch is raised (`holdfast epoch raise`)";

/// An operator's session with a hub.
#[derive(Debug)]
pub(super) struct Session {
    dir: ContextDir,
    pub(super) context: Context,
    pub(super) authority: TrustedAuthority,
    pub(super) client: OperatorClient<Channel>,
    pub(super) clock: Arc<dyn Clock>,
}

/// The fleet's release, as operators signed it.
#[derive(Debug)]
pub(super) struct Release {
    pub(super) manifest: Verified<Manifest>,
    pub(super) slices: Vec<Slice>,
}

impl Session {
    /// Connects, logging in if the API certificate has ended and renewing it past half of its life, and walks the
    /// authority from the version that was verified here to the newest that the hub has.
    pub(super) async fn open(
        dir: ContextDir,
        clock: Arc<dyn Clock>,
        signing: &Signing,
    ) -> anyhow::Result<Self> {
        let mut context = dir.context()?;
        let mut authority = dir.authority(&context.authority)?;
        let credential = dir.api_credential()?;
        let age = credential
            .as_ref()
            .map_or(Age::Over, |held| login::age(held, clock.unix_secs()));
        if age == Age::Over {
            output::remark(&format!(
                "logging in to {} as '{}'",
                context.trust_domain, context.operator
            ));
            authority = Self::log_in(&dir, &clock, signing).await?;
            context = dir.context()?;
        }
        let config = connect::pinned(&authority, dir.api_credential()?, clock.clone())
            .context("the API certificate cannot be used: get another with `holdfast context login`")?;
        let channel = connect::connect(&context.hubs, config).await?;
        let mut client = OperatorClient::new(channel.clone()).max_decoding_message_size(REPLY_BYTES_MAX);
        if age == Age::Renewable
            && let Err(error) = login::renew(&dir, &mut client).await
        {
            output::remark(&format!("warning: the API certificate is not renewed: {error:#}"));
        }
        let authority = match pins::walk(&dir, &mut context, &authority, &channel).await? {
            Walked::Reached(authority) => *authority,
            Walked::HubBehind => {
                pins::show(&dir, &mut client).await?;
                match pins::walk(&dir, &mut context, &authority, &channel).await? {
                    Walked::Reached(authority) => *authority,
                    Walked::HubBehind => bail!(
                        "the hub does not have authority version {}, which this machine has verified, and did not take it",
                        context.authority.version
                    ),
                }
            }
        };
        pins::warn_of_expiry(&authority, clock.unix_secs());
        Ok(Self {
            dir,
            context,
            authority,
            client,
            clock,
        })
    }

    /// Gets an API certificate by a signature, whatever credential there is; the authority that was reached meanwhile.
    pub(super) async fn log_in(
        dir: &ContextDir,
        clock: &Arc<dyn Clock>,
        signing: &Signing,
    ) -> anyhow::Result<TrustedAuthority> {
        let mut context = dir.context()?;
        let known = dir.authority(&context.authority)?;
        let channel = connect::connect(&context.hubs, connect::pinned(&known, None, clock.clone())?).await?;
        // The version that lists this operator may be newer than what was verified here.
        let authority = match pins::walk(dir, &mut context, &known, &channel).await? {
            Walked::Reached(authority) => *authority,
            // It is told so once this operator is in.
            Walked::HubBehind => known,
        };
        if authority.operator(&context.operator).is_none() {
            bail!(
                "authority version {} lists no operator '{}': has an admin added the request yet (`holdfast authority add`)?",
                authority.document().version,
                context.operator
            );
        }
        let signer = Signer::open(dir, signing)?;
        login::login(dir, &context, channel, &signer).await?;
        Ok(authority)
    }

    /// What is known here without the hub.
    pub(super) fn known(&self) -> Known<'_> {
        Known {
            dir: &self.dir,
            context: &self.context,
            authority: &self.authority,
            now_secs: self.clock.unix_secs(),
        }
    }

    /// Where this context is kept.
    pub(super) const fn dir(&self) -> &ContextDir {
        &self.dir
    }

    /// The current release with all its slices, verified; none if nothing was released yet.
    ///
    /// A release below the highest that this machine has seen is an error, not an answer, unless operators have begun
    /// another epoch since: its history begins with what the hub has.
    pub(super) async fn release(&mut self) -> anyhow::Result<Option<Release>> {
        let seen = self.context.highest.clone();
        let Some(envelope) = self.shown_manifest(None).await? else {
            if let Some(seen) = seen {
                self.must_be_over(&seen, "no release").await?;
            }
            return Ok(None);
        };
        let manifest = self.verify_release(&envelope)?;
        let generation = manifest.value().generation();
        // Whoever may sign releases may not raise the epoch by one.
        if generation.epoch > pins::kept_epoch(&self.dir)? {
            let epoch = self.epoch().await?;
            if generation.epoch > epoch {
                bail!(
                    "the hub shows release {generation}, and no operator's signature raised the epoch beyond {epoch}: \
                     whoever signed it must not have. Do not sign anything upon it"
                );
            }
        }
        match seen {
            Some(seen)
                if generation < seen.generation
                    || (generation == seen.generation && manifest.digest() != seen.manifest) =>
            {
                let shown = format!("release {generation} ({})", manifest.digest().short());
                self.must_be_over(&seen, &shown).await?;
            }
            _ => self.remember(&manifest),
        }
        let slices = self.slices(&manifest).await?;
        Ok(Some(Release { manifest, slices }))
    }

    /// The highest release that this machine verified, whoever signs now; none before the first.
    pub(super) async fn seen_release(&mut self) -> anyhow::Result<Option<Release>> {
        let (Some(seen), Some(envelope)) = (self.context.highest.clone(), self.dir.manifest()?) else {
            return Ok(None);
        };
        let manifest = TrustedAuthority::recall(&envelope, seen.manifest)
            .context("the manifest that this machine keeps is not the one that it verified")?;
        let slices = self.slices(&manifest).await?;
        Ok(Some(Release { manifest, slices }))
    }

    /// The manifest that the hub shows for a generation, or as the current one: nothing is verified of it.
    pub(super) async fn shown_manifest(
        &mut self,
        generation: Option<Generation>,
    ) -> anyhow::Result<Option<Envelope>> {
        let generation = generation.map(Into::into);
        let reply = self
            .client
            .get_release(v1::GetReleaseRequest { generation })
            .await?;
        let manifest = reply.into_inner().manifest;
        Ok(manifest.map(Envelope::try_from).transpose()?)
    }

    /// Passes if the epoch of a release that was seen here is over; else the hub that has forgotten it is shown it.
    async fn must_be_over(&mut self, seen: &SeenRelease, shown: &str) -> anyhow::Result<()> {
        if self.epoch().await? > seen.generation.epoch {
            return Ok(());
        }
        pins::show(&self.dir, &mut self.client).await?;
        bail!(
            "the hub shows {shown}, but this machine has seen {} ({}): was an old backup restored? {SHOWN}",
            seen.generation,
            seen.manifest.short()
        )
    }

    /// Verifies a release by the newest authority. One that this machine verified before is known by its digest: the
    /// authority may have dropped who signed it, and then it waits to be endorsed anew.
    pub(super) fn verify_release(&self, envelope: &Envelope) -> anyhow::Result<Verified<Manifest>> {
        match self
            .authority
            .verify(envelope, &Act::Release, self.clock.unix_secs())
        {
            Ok(verified) => Ok(verified),
            Err(refused) => {
                let seen = self.context.highest.as_ref().map(|seen| seen.manifest);
                let known = seen.and_then(|seen| TrustedAuthority::recall(envelope, seen));
                known.ok_or(refused).with_context(|| {
                    let standing = Standing::of(&self.authority, DraftKind::Release, envelope);
                    format!(
                        "the hub's release is not signed as the authority asks today: it is {standing}. If the authority \
                         changed since it was made (another threshold, an operator who left), those who sign now endorse \
                         it: `holdfast policy endorse`. If it did not, somebody tampers with the hub"
                    )
                })
            }
        }
    }

    /// The slices of an earlier release, verified; none if the hub does not have it, or not with the signatures that the
    /// authority asks for today: an old release is endorsed by nobody.
    pub(super) async fn earlier_slices(
        &mut self,
        generation: Generation,
    ) -> anyhow::Result<Option<Vec<Slice>>> {
        let Some(envelope) = self.shown_manifest(Some(generation)).await? else {
            return Ok(None);
        };
        match self.verify_release(&envelope) {
            Ok(manifest) => Ok(Some(self.slices(&manifest).await?)),
            Err(_) => {
                output::remark(&format!(
                    "release {generation}, in force on some node, is not signed as the authority asks now: \
                     what changes from it is not shown"
                ));
                Ok(None)
            }
        }
    }

    async fn slices(&mut self, manifest: &Verified<Manifest>) -> anyhow::Result<Vec<Slice>> {
        let mut slices = Vec::new();
        for wanted in &manifest.value().slices {
            slices.push(self.slice(wanted.digest).await?);
        }
        Ok(slices)
    }

    /// Remembers the highest release seen, and keeps its manifest.
    pub(super) fn remember(&mut self, manifest: &Verified<Manifest>) {
        pins::tell_if_forgotten(self.dir.remember_release(&mut self.context, manifest));
    }

    /// Goes on under a version of the authority that is in force now, and remembers it.
    pub(super) fn hold_authority(&mut self, reached: TrustedAuthority) {
        let steps = std::slice::from_ref(&reached);
        pins::tell_if_forgotten(self.dir.remember_authority(&mut self.context, steps));
        self.authority = reached;
    }

    /// The epoch that operators' signatures have reached.
    pub(super) async fn epoch(&mut self) -> anyhow::Result<u64> {
        let now_secs = self.clock.unix_secs();
        pins::epoch(&self.dir, &self.authority, &mut self.client, now_secs).await
    }

    /// The epochs that the hub shows, and how far they are proven.
    pub(super) async fn epochs(&mut self) -> anyhow::Result<Epochs> {
        let now_secs = self.clock.unix_secs();
        pins::epochs(&self.dir, &self.authority, &mut self.client, now_secs).await
    }

    /// The slice of this digest.
    pub(super) async fn slice(&mut self, digest: Digest) -> anyhow::Result<Slice> {
        let request = v1::GetSliceRequest {
            digest: digest.to_string(),
        };
        let mut chunks = self.client.read_slice(request).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.message().await? {
            bytes.extend_from_slice(&chunk.bytes);
            if bytes.len() > SLICE_BYTES_MAX {
                bail!("the hub sends more than a slice holds");
            }
        }
        slice_of(&bytes, digest)
    }

    /// Uploads a slice.
    pub(super) async fn write_slice(&mut self, digest: Digest, bytes: &[u8]) -> anyhow::Result<()> {
        let total = bytes.len() as u64;
        let part = |chunk: &[u8]| v1::WriteSliceRequest {
            digest: digest.to_string(),
            total,
            bytes: chunk.to_vec().into(),
        };
        let parts: Vec<_> = bytes.chunks(SLICE_CHUNK_BYTES_MAX).map(part).collect();
        self.client.write_slice(tokio_stream::iter(parts)).await?;
        Ok(())
    }

    /// Every node that is not removed, by name.
    pub(super) async fn nodes(&mut self) -> anyhow::Result<Vec<v1::Node>> {
        let mut nodes = Vec::new();
        let mut page_after = String::new();
        loop {
            let request = v1::ListNodesRequest {
                page_after,
                page_size: 0,
            };
            let page = self.client.list_nodes(request).await?.into_inner();
            nodes.extend(page.nodes);
            page_after = page.next_page_after;
            if page_after.is_empty() {
                return Ok(nodes);
            }
        }
    }
}

/// The slice that these bytes are, if it is the one asked for: `plan` and what is signed are computed from it.
fn slice_of(bytes: &[u8], asked_for: Digest) -> anyhow::Result<Slice> {
    if Digest::of(bytes) != asked_for {
        bail!(
            "the hub sent another slice than the one asked for ({})",
            asked_for.short()
        );
    }
    Ok(Slice::parse(bytes)?)
}

#[cfg(test)]
mod tests {
    use holdfast_policy::parse;

    use super::*;

    #[test]
    fn another_slice_than_the_one_asked_for_is_not_read() {
        let slice = |port: u16| {
            let text = format!(
                "policies: [{{ select: all, inbound: [{{ allow: {{ tcp: [{port}], from: any }} }}] }}]"
            );
            parse::load(&[("policy.yaml", text)]).unwrap().slices()[0].clone()
        };
        let (asked_for, another) = (slice(22), slice(23));
        let digest = asked_for.digest();
        assert_eq!(slice_of(&asked_for.to_bytes(), digest).unwrap(), asked_for);
        let refused = slice_of(&another.to_bytes(), digest).unwrap_err();
        assert!(refused.to_string().contains("another slice"), "{refused}");
    }
}
