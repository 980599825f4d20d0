//! The page in a real browser: what it says, that it fits a desktop and a phone, that nothing is asked of another host, in
//! light and in dark. Needs Chromium (Debian: `apt-get install chromium`) and what `make setup` installs. Screenshots are
//! left in `target/browser`: look at them after a change.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use micropay_gateway::server::operator::{Live, router};
use serde_json::Value;
use storage::MemoryStore;
use tokio::net::TcpListener;
use tokio::process::Command;

use super::shop;

#[tokio::test]
async fn a_busy_shop_fits_every_screen() {
    for view in look_at(shop::busy().await, "busy").await {
        view.is_sound();
        let text = view.text();
        for words in [
            "Selling",
            "EXPECTED",
            "Wins against expectation",
            "One payer wins too little",
            "Payers",
            "withdrawing",
            "Claims",
            "#3",
            "commitment-closed",
            "Added by the gateway",
            "Last errors",
            "connection refused",
        ] {
            assert!(
                text.to_lowercase().contains(&words.to_lowercase()),
                "{}: no {words:?}",
                view.look()
            );
        }
    }
}

#[tokio::test]
async fn a_shop_with_channels_fits_every_screen() {
    for view in look_at(shop::with_channels().await, "channels").await {
        view.is_sound();
        let text = view.text().to_lowercase();
        for words in [
            "channels",
            "unsettled",
            "first expiry",
            "ends soon",
            "closing",
            "closes and checkpoints",
        ] {
            assert!(text.contains(words), "{}: no {words:?}", view.look());
        }
    }
}

#[tokio::test]
async fn an_empty_shop_says_what_to_do() {
    for view in look_at(shop::empty(), "empty").await {
        view.is_sound();
        assert!(view.text().contains("micropay get http://127.0.0.1:8402/"));
    }
}

#[tokio::test]
async fn a_hostile_world_breaks_neither_page_nor_policy() {
    for view in look_at(shop::hostile().await, "hostile").await {
        view.is_sound();
        assert!(
            view.text().contains("<script>alert("),
            "{}: shown as text",
            view.look()
        );
        assert!(view.text().contains("No payment is accepted"));
    }
}

struct View(Value);

impl View {
    fn look(&self) -> &str {
        self.0["look"].as_str().unwrap()
    }

    fn text(&self) -> &str {
        self.0["text"].as_str().unwrap()
    }

    fn is_sound(&self) {
        let Self(view) = self;
        let look = self.look();
        assert_eq!(view["status"], 200, "{look}");
        assert_eq!(view["complaints"], Value::Array(vec![]), "{look}: the console");
        assert_eq!(view["scripts"], 0, "{look}: scripts");
        assert_eq!(view["wide"], Value::Array(vec![]), "{look}: sticks out");
        assert_eq!(view["cut"], Value::Array(vec![]), "{look}: does not fit");
        assert_eq!(view["scrollWidth"], view["width"], "{look}: scrolls sideways");
        for request in view["requests"].as_array().unwrap() {
            let url = request.as_str().unwrap();
            assert!(url.starts_with("http://127.0.0.1:"), "{look}: asks {url}");
        }
        let (back, ink) = (brightness(&view["back"]), brightness(&view["ink"]));
        assert_eq!(
            back < ink,
            look.contains("dark"),
            "{look}: background {back}, text {ink}"
        );
    }
}

/// Of `rgb(1, 2, 3)`.
fn brightness(color: &Value) -> u32 {
    let color = color.as_str().unwrap();
    color
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse::<u32>().ok())
        .take(3)
        .sum()
}

async fn look_at(shop: Live<MemoryStore>, name: &str) -> Vec<View> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(axum::serve(listener, router(shop, [])).into_future());

    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap();
    let folder = root.join("target/browser");
    std::fs::create_dir_all(&folder).unwrap();
    let output = Command::new("node")
        .arg(root.join("tests/browser/operator.mjs"))
        .arg(url)
        .arg(chromium())
        .arg(folder)
        .arg(name)
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .expect("node is installed");
    server.abort();
    assert!(
        output.status.success(),
        "tests/browser/operator.mjs failed: {}",
        output.status
    );
    let views: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(views.len(), 4);
    views.into_iter().map(View).collect()
}

/// `CHROMIUM`, or the first browser of that name.
fn chromium() -> PathBuf {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let usual = [
        "/usr/bin/chromium",
        "/usr/bin/chromium-browser",
        "/usr/bin/google-chrome",
    ]
    .map(PathBuf::from);
    named
        .into_iter()
        .chain(usual)
        .find(|path| path.exists())
        .expect("no Chromium: install it (Debian: apt-get install chromium), or say where it is in CHROMIUM")
}
