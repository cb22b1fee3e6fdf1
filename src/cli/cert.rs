//! `shoal cert`: the authority of a cluster, certificates of its nodes, and join tokens.

use super::{print_json, print_line};
use crate::clock::Clock;
use crate::proto::swarm::Roles;
use crate::proto::time::Wall;
use crate::tls::cluster::{Authority, Certified, Description, LIFETIME_MAX, NodeKey, is_name};
use anyhow::{Context, bail};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

/// The authority's certificate in its folder.
const CA_FILE: &str = "ca.pem";
/// The authority's private key in its folder.
const CA_KEY_FILE: &str = "ca-key.pem";
/// Permissions of certificates, and of private keys, which their owner alone may read.
const CERTIFICATE_MODE: u32 = 0o644;
const KEY_MODE: u32 = 0o600;

/// What to make or show.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make the authority of a new cluster: ca.pem, which every node needs, and ca-key.pem, a secret
    Ca(Ca),
    /// Make a node's certificate and key: NAME.pem and NAME-key.pem
    Node(Node),
    /// Make a join token, with which nodes get their certificates from a superpeer that has the authority's key
    Token(Token),
    /// Show what stands in a certificate file
    Show(Show),
}

/// Where to make an authority.
#[derive(Debug, clap::Args)]
pub(super) struct Ca {
    /// Folder for the files; made if missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the cluster
    #[arg(long, value_name = "NAME", default_value = "shoal", value_parser = parse_name)]
    name: String,
    /// Leave an authority that is there already as it is, and succeed: for scripts that run again
    #[arg(long)]
    keep: bool,
}

/// Where the authority is.
#[derive(Debug, clap::Args)]
struct AuthorityFiles {
    /// Folder with ca.pem and ca-key.pem, or the certificate file of the authority
    #[arg(long, value_name = "PATH")]
    ca: PathBuf,
    /// Private key of the authority, if it is not in the same folder
    #[arg(long, value_name = "FILE")]
    ca_key: Option<PathBuf>,
}

/// The node to make a certificate for.
#[derive(Debug, clap::Args)]
pub(super) struct Node {
    #[command(flatten)]
    authority: AuthorityFiles,
    /// The node's name, as `node.name`
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// What the node may be; several by repetition
    #[arg(long, value_name = "ROLE", required = true)]
    role: Vec<Role>,
    /// Folder for the files; made if missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How long the certificate is valid, such as 90days
    #[arg(long, value_name = "TIME", default_value = "365days", value_parser = parse_lifetime)]
    lifetime: Duration,
    /// Renew: keep the key, by which others know the node, and replace the certificate
    #[arg(long)]
    renew: bool,
}

/// The token to make.
#[derive(Debug, clap::Args)]
pub(super) struct Token {
    #[command(flatten)]
    authority: AuthorityFiles,
    /// What nodes that show the token may be; several by repetition
    #[arg(long, value_name = "ROLE", required = true)]
    role: Vec<Role>,
    /// How long the token is good, such as 24h, or `never` for one that does not expire
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_ttl)]
    ttl: Ttl,
    /// File for the token, which is replaced if it is there; only its owner may read it. Otherwise it is printed
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// The certificate to show.
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// File with certificates in PEM
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a node may be.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Role {
    /// Serves clients and gives to peers
    Edge,
    /// Keeps a part of the directory and grants leases
    Superpeer,
}

/// How long a token is good.
#[derive(Clone, Copy, Debug)]
enum Ttl {
    For(Duration),
    Forever,
}

/// Does it. What was written is told on standard error; a token, and what is shown, go to standard output.
pub(super) fn main(command: &Command) -> anyhow::Result<ExitCode> {
    let now = Clock::system().now().wall;
    match command {
        Command::Ca(args) => make_authority(args, now)?,
        Command::Node(args) => make_node(args, now)?,
        Command::Token(args) => make_token(args, now)?,
        Command::Show(args) => show(args, now)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn make_authority(args: &Ca, now: Wall) -> anyhow::Result<()> {
    let [cert, key] = [CA_FILE, CA_KEY_FILE].map(|name| args.out.join(name));
    if args.keep && cert.exists() && key.exists() {
        // They must still be one authority.
        AuthorityFiles { ca: args.out.clone(), ca_key: None }.load()?;
        eprintln!("{} and {} are kept", cert.display(), key.display());
        return Ok(());
    }
    prepare(&args.out, &[&cert, &key])?;
    let authority = Authority::create(&args.name, now)?;
    write_new(&key, &authority.key_pem(), KEY_MODE)?;
    write_new(&cert, authority.certificate_pem(), CERTIFICATE_MODE)?;
    eprintln!("wrote {} and {}; keep the key secret", cert.display(), key.display());
    Ok(())
}

fn make_token(args: &Token, now: Wall) -> anyhow::Result<()> {
    let expires = match args.ttl {
        Ttl::For(ttl) => Some(now.plus(ttl)),
        Ttl::Forever => None,
    };
    let token = args.authority.load()?.mint_token(roles(&args.role), expires)?;
    match &args.out {
        Some(path) => replace(path, &format!("{token}\n"), KEY_MODE),
        None => print_line(&token),
    }
}

fn make_node(args: &Node, now: Wall) -> anyhow::Result<()> {
    let authority = args.authority.load()?;
    let cert = args.out.join(format!("{}.pem", args.name));
    let key_file = args.out.join(format!("{}-key.pem", args.name));
    let key = if args.renew {
        require_node(&cert)?;
        NodeKey::load(&read(&key_file)?).with_context(|| key_file.display().to_string())?
    } else {
        prepare(&args.out, &[&cert, &key_file])?;
        NodeKey::create()?
    };
    let chain = authority.issue_for(&key, roles(&args.role), &args.name, now, args.lifetime)?;
    let pem: String = chain.iter().map(encode).collect();
    if args.renew {
        replace(&cert, &pem, CERTIFICATE_MODE)?;
    } else {
        write_new(&key_file, &key.pem(), KEY_MODE)?;
        write_new(&cert, &pem, CERTIFICATE_MODE)?;
    }
    eprintln!("wrote {} for the key {}", cert.display(), key_file.display());
    Ok(())
}

/// Sees to it that a renewal replaces a node's certificate, and not by mistake the authority's.
fn require_node(path: &Path) -> anyhow::Result<()> {
    let first =
        CertificateDer::from_pem_slice(read(path)?.as_bytes()).with_context(|| path.display().to_string())?;
    Certified::read(&first).with_context(|| path.display().to_string())?;
    Ok(())
}

fn show(args: &Show, now: Wall) -> anyhow::Result<()> {
    let name = || args.file.display().to_string();
    let pem = read(&args.file)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let chain = chain.with_context(name)?;
    if chain.is_empty() {
        bail!("{}: no certificate in it", args.file.display());
    }
    let described: Result<Vec<_>, _> = chain.iter().map(Description::read).collect();
    let described = described.with_context(name)?;
    if args.json {
        return print_json(&described.iter().map(|one| as_json(one, now)).collect::<Vec<_>>());
    }
    described.iter().try_for_each(|one| print_line(&as_text(one, now)))
}

fn as_json(described: &Description, now: Wall) -> serde_json::Value {
    let node = described.node.as_ref();
    serde_json::json!({
        "kind": kind(described),
        "subject": described.subject,
        "issuer": described.issuer,
        "name": node.map(|node| &node.name),
        "id": node.map(|node| node.id.to_string()),
        "roles": node.map(|node| node.roles.names().collect::<Vec<_>>()),
        "not_before": date(described.not_before),
        "not_after": date(described.not_after),
        "state": state(described, now),
    })
}

fn as_text(described: &Description, now: Wall) -> String {
    let mut lines = vec![format!("{}: {}", kind(described), described.subject)];
    if let Some(node) = &described.node {
        lines.push(format!("  name      {}", node.name));
        lines.push(format!("  roles     {}", node.roles.names().collect::<Vec<_>>().join(", ")));
        lines.push(format!("  id        {}", node.id));
    }
    lines.push(format!("  issuer    {}", described.issuer));
    let [from, to] = [described.not_before, described.not_after].map(date);
    lines.push(format!("  validity  {from} to {to}: {}", state(described, now)));
    lines.join("\n")
}

fn kind(described: &Description) -> &'static str {
    match described {
        Description { is_authority: true, .. } => "authority",
        Description { node: Some(_), .. } => "node",
        Description { .. } => "other",
    }
}

fn state(described: &Description, now: Wall) -> &'static str {
    if now < described.not_before {
        "not yet valid"
    } else if now > described.not_after {
        "expired"
    } else {
        "valid"
    }
}

/// A date in UTC as in RFC 3339. One before 1970 is 1970.
fn date(at: Wall) -> String {
    let since = Duration::from_secs(at.as_secs().max(0).cast_unsigned());
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

impl AuthorityFiles {
    fn load(&self) -> anyhow::Result<Authority> {
        let (folder, cert) = match self.ca.is_dir() {
            true => (self.ca.as_path(), self.ca.join(CA_FILE)),
            false => (self.ca.parent().unwrap_or_else(|| Path::new("")), self.ca.clone()),
        };
        let key = self.ca_key.clone().unwrap_or_else(|| folder.join(CA_KEY_FILE));
        Authority::load(&read(&cert)?, &read(&key)?)
            .with_context(|| format!("{} and {}", cert.display(), key.display()))
    }
}

fn roles(roles: &[Role]) -> Roles {
    let has = |wanted: fn(&Role) -> bool| roles.iter().any(wanted);
    Roles {
        edge: has(|role| matches!(role, Role::Edge)),
        superpeer: has(|role| matches!(role, Role::Superpeer)),
    }
}

/// Makes the folder, and sees to it that nothing in it is lost: a key that was overwritten is a cluster lost.
fn prepare(folder: &Path, new: &[&Path]) -> anyhow::Result<()> {
    if let Some(there) = new.iter().find(|path| path.exists()) {
        bail!("{} exists already and is not overwritten", there.display());
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Writes a file that must not be there, with its permissions from the first byte on.
fn write_new(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    })
    .with_context(|| path.display().to_string())
}

/// Puts a new file in the place of an old one, so that a node that reads it sees one or the other.
fn replace(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let new = path.with_added_extension("new");
    let _ = fs::remove_file(&new);
    write_new(&new, text, mode)?;
    fs::rename(&new, path).with_context(|| path.display().to_string())
}

fn encode(certificate: &CertificateDer<'_>) -> String {
    let lines = data_encoding::BASE64.encode(certificate);
    let lines: Vec<_> = lines.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn parse_name(text: &str) -> Result<String, String> {
    let rule = "expected 1 to 63 letters, digits, `-`, `.` or `_`";
    if is_name(text) { Ok(text.to_owned()) } else { Err(rule.to_owned()) }
}

fn parse_lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let is_possible = (Duration::from_secs(1)..=LIFETIME_MAX).contains(&lifetime);
    if is_possible { Ok(lifetime) } else { Err("expected 1s to 3650days".to_owned()) }
}

fn parse_ttl(text: &str) -> Result<Ttl, String> {
    if text == "never" { Ok(Ttl::Forever) } else { parse_lifetime(text).map(Ttl::For) }
}
