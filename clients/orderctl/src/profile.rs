//! Where a stage is and who is signed in there: a file of the stage's own, which only its owner can read.

use std::{
    env, fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use order_client::is_loopback;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The stage in which whoever changes something is asked first.
pub(crate) const PROD: &str = "prod";

/// It has no `Debug`, so that nothing can print the tokens.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Profile {
    pub(crate) api_url: String,
    /// Where the user pool answers.
    pub(crate) pool_url: String,
    pub(crate) client_id: String,
    pub(crate) user: String,
    pub(crate) tokens: Option<Tokens>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tokens {
    pub(crate) access: String,
    /// Some answers to a renewal have none: then the one before stays.
    pub(crate) refresh: Option<String>,
    pub(crate) expires_at: DateTime<Utc>,
}

/// The folder of all profiles.
#[derive(Debug, Clone)]
pub(crate) struct Profiles(PathBuf);

impl Profile {
    /// Whether this is where it leads, however that is written.
    pub(crate) fn leads_to(&self, api_url: &str) -> bool {
        let plain = |text: &str| Url::parse(text).map(|url| url.as_str().trim_end_matches('/').to_owned());
        matches!((plain(&self.api_url), plain(api_url)), (Ok(own), Ok(other)) if own == other)
    }
}

impl Profiles {
    pub(crate) fn of_environment() -> Result<Self, Failure> {
        let folder = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let config = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")));
        Ok(Self(config.ok_or(Failure::NoHome)?.join("orderctl")))
    }

    pub(crate) fn path(&self, stage: &str) -> PathBuf {
        self.0.join(format!("{stage}.toml"))
    }

    /// `None` while there is no profile of this stage.
    pub(crate) fn load(&self, stage: &str) -> Result<Option<Profile>, Failure> {
        let path = self.path(stage);
        let cannot = |source| Failure::File { path: path.clone(), source };
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(cannot(error)),
        };
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(Failure::OpenToOthers(path));
        }
        let text = fs::read_to_string(&path).map_err(cannot)?;
        toml::from_str(&text).map(Some).map_err(|_| Failure::NoProfile(path))
    }

    /// In one move, so that nobody reads a half of it, and never readable by others.
    pub(crate) fn save(&self, stage: &str, profile: &Profile) -> Result<(), Failure> {
        let path = self.path(stage);
        let text = toml::to_string(profile).map_err(|_| Failure::NoProfile(path.clone()))?;
        let write = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
            let new = path.with_extension(format!("{}.new", std::process::id()));
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            file.write_all(text.as_bytes())?;
            fs::rename(&new, &path)
        };
        write().map_err(|source| Failure::File { path: path.clone(), source })
    }

    /// What of prod would be changed there, if any: by its name, or because it is where prod's profile leads to. Prod most often
    /// has no profile, because it takes no passwords; so a URL that is neither the stage's own nor of this machine counts, too.
    pub(crate) fn prod_at(&self, stage: &str, own: Option<&Profile>, api_url: &str) -> Result<Option<String>, Failure> {
        let leads_there = |profile: &Profile| profile.leads_to(api_url);
        if stage == PROD || self.load(PROD)?.as_ref().is_some_and(leads_there) {
            return Ok(Some(PROD.to_owned()));
        }
        let known = own.is_some_and(leads_there) || is_loopback(api_url);
        Ok((!known).then(|| format!("what may be prod ({api_url})")))
    }
}

/// What the local stack says of itself, and its users' password.
pub(crate) struct LocalStack {
    pub(crate) api_url: String,
    pub(crate) pool_url: String,
    pub(crate) client_id: String,
    pub(crate) password: String,
}

impl LocalStack {
    /// That of the checkout which this folder is in; `LOCAL_STACK` names another than the developer's.
    pub(crate) fn around(folder: &Path) -> Result<Self, Failure> {
        let stack = env::var("LOCAL_STACK").unwrap_or_default();
        let states = folder.ancestors().map(|folder| folder.join(".local").join(&stack));
        let state = states.into_iter().find(|state| state.join("stack.env").is_file()).ok_or(Failure::NoStack)?;
        let read = |name: &str| {
            let path = state.join(name);
            fs::read_to_string(&path).map_err(|source| Failure::File { path, source })
        };
        let settings = read("stack.env")?;
        let setting = |name: &str| {
            let lines = settings.lines().filter_map(|line| line.split_once('='));
            let value =
                lines.into_iter().find(|(each, _)| *each == name).map(|(_, value)| value.trim_matches('"').to_owned());
            value.ok_or(Failure::NoStack)
        };
        Ok(Self {
            api_url: setting("API_URL")?,
            pool_url: setting("AWS_ENDPOINT_URL")?,
            client_id: setting("USER_POOL_CLIENT_ID")?,
            password: read("password")?,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A folder of the test's own, which goes with it.
    pub(crate) struct Folder(pub(crate) PathBuf);

    impl Folder {
        pub(crate) fn new(name: &str) -> Self {
            let folder = env::temp_dir().join(format!("orderctl-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        pub(crate) fn profiles(&self) -> Profiles {
            Profiles(self.0.join("orderctl"))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    pub(crate) fn profile(api_url: &str) -> Profile {
        Profile {
            api_url: api_url.to_owned(),
            pool_url: "https://cognito-idp.eu-central-1.amazonaws.com".to_owned(),
            client_id: "client".to_owned(),
            user: "anna@example.com".to_owned(),
            tokens: Some(Tokens {
                access: "secret-access".to_owned(),
                refresh: Some("secret-refresh".to_owned()),
                expires_at: "2026-03-01T08:00:00Z".parse().unwrap(),
            }),
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_profile_is_for_its_owner_only_and_comes_back_as_it_was() {
        let folder = Folder::new("profile");
        let profiles = folder.profiles();
        assert!(profiles.load("dev").unwrap().is_none());
        profiles.save("dev", &profile("https://dev.example")).unwrap();
        assert_eq!((mode(&profiles.0), mode(&profiles.path("dev"))), (0o700, 0o600));
        assert!(profiles.load("dev").unwrap() == Some(profile("https://dev.example")));
        profiles.save("dev", &Profile { tokens: None, ..profile("https://dev.example") }).unwrap();
        assert!(profiles.load("dev").unwrap().is_some_and(|profile| profile.tokens.is_none()));
        assert_eq!(fs::read_dir(&profiles.0).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_profile_that_others_may_read_is_refused() {
        let folder = Folder::new("open");
        let profiles = folder.profiles();
        profiles.save("dev", &profile("https://dev.example")).unwrap();
        fs::set_permissions(profiles.path("dev"), fs::Permissions::from_mode(0o640)).unwrap();
        let Err(failure) = profiles.load("dev") else { panic!() };
        assert!(failure.said().contains("chmod 600"), "{failure}");
    }

    #[test]
    fn what_is_no_profile_is_said_without_what_is_in_it() {
        let folder = Folder::new("broken");
        let profiles = folder.profiles();
        profiles.save("dev", &profile("https://dev.example")).unwrap();
        fs::write(profiles.path("dev"), "tokens = \"secret-access").unwrap();
        let Err(failure) = profiles.load("dev") else { panic!() };
        let said = failure.said();
        assert!(said.contains("orderctl login") && !said.contains("secret"), "{said}");
    }

    #[test]
    fn prod_is_known_by_its_name_and_by_where_it_is() {
        let folder = Folder::new("prod");
        let profiles = folder.profiles();
        let dev = profile("https://dev.example");
        let prod_at = |stage: &str, api_url: &str| profiles.prod_at(stage, Some(&dev), api_url).unwrap();
        let prod = Some("prod".to_owned());
        assert_eq!(prod_at("prod", "https://any.example"), prod);
        assert_eq!(prod_at("dev", "https://DEV.example:443/"), None);
        for here in ["http://127.0.0.1:1/x", "http://localhost:1", "http://[::1]:1"] {
            assert_eq!(prod_at("dev", here), None);
        }

        let unknown = Some("what may be prod (https://prod.example)".to_owned());
        assert_eq!(prod_at("dev", "https://prod.example"), unknown);
        assert_eq!(profiles.prod_at("local", None, "https://prod.example").unwrap(), unknown);
        profiles.save("prod", &profile("https://prod.example/")).unwrap();
        assert_eq!(prod_at("dev", "https://prod.example"), prod);
        // A tunnel may end on this machine.
        profiles.save("prod", &profile("http://localhost:1")).unwrap();
        assert_eq!(prod_at("dev", "http://localhost:1/"), prod);
    }

    #[test]
    fn the_local_stack_is_found_from_anywhere_in_its_checkout() {
        let folder = Folder::new("stack");
        let (state, deep) =
            (folder.0.join(".local").join(env::var("LOCAL_STACK").unwrap_or_default()), folder.0.join("a/b"));
        fs::create_dir_all(&deep).unwrap();
        assert!(matches!(LocalStack::around(&deep), Err(Failure::NoStack)));
        fs::create_dir_all(&state).unwrap();
        let settings =
            "API_URL=http://127.0.0.1:1/api\nAWS_ENDPOINT_URL=http://127.0.0.1:1\nUSER_POOL_CLIENT_ID=\"c 1\"\n";
        fs::write(state.join("stack.env"), settings).unwrap();
        fs::write(state.join("password"), "word").unwrap();
        let stack = LocalStack::around(&deep).map_err(|failure| failure.said()).unwrap();
        assert_eq!((stack.api_url.as_str(), stack.pool_url.as_str()), ("http://127.0.0.1:1/api", "http://127.0.0.1:1"));
        assert_eq!((stack.client_id.as_str(), stack.password.as_str()), ("c 1", "word"));
    }
}
