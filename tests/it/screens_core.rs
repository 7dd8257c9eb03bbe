//! Snapshots of home, label, help and palette in their empty, loading and busy states, and drawing at any terminal
//! size.

use crate::support::{Desk, cards, envelopes, models, paint, pairs, sampling, sampling_began};
use tiebreak::app::{Msg, Theme};
use tiebreak::domain::RunId;
use tiebreak::protocol::SessionRecord;

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];

fn snap(name: &str, mut desk: Desk) {
    for (w, h) in SIZES {
        desk.send(Msg::Resize(w, h));
        insta::with_settings!({ snapshot_path => "../snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(format!("{name}_{w}x{h}"), desk.screen());
        });
    }
}

/// The home screen with sessions and models.
fn busy_home() -> Desk {
    let mut desk = Desk::new(80, 24);
    desk.send(Msg::SessionsListed(cards()));
    desk.send(Msg::ModelsListed(models()));
    desk.send(Msg::DeviceKnown("CPU 2 cores · 21 GB free".into()));
    desk
}

/// A session with some labelled pairs and a live sampling run.
fn busy_label() -> Desk {
    let mut desk = Desk::with_session(80, 24, pairs(12));
    desk.keys("1 2 H 0 . b 1 space");
    desk.send(Msg::RunFound(Box::new(sampling("sample-1"))));
    desk.send(Msg::RunAlive { run: RunId::new("sample-1"), alive: true });
    desk.send(Msg::RunRecords { run: RunId::new("sample-1"), records: envelopes(&sampling_began(120)) });
    desk
}

#[test]
fn home() {
    snap("home_loading", Desk::new(80, 24));
    let mut empty = Desk::new(80, 24);
    empty.send(Msg::SessionsListed(Vec::new()));
    empty.send(Msg::ModelsListed(Vec::new()));
    empty.send(Msg::DeviceKnown("CPU 2 cores · 21 GB free".into()));
    snap("home_empty", empty);
    let mut busy = busy_home();
    busy.keys("down");
    snap("home_busy", busy);
}

#[test]
fn label() {
    let mut loading = Desk::new(80, 24);
    loading.keys("n");
    loading.keys("esc");
    loading.model.goal = Some(("story-tone".into(), tiebreak::app::Goal::to("label")));
    loading.send(Msg::SessionOpened(crate::support::opened("story-tone")));
    snap("label_loading", loading);
    snap("label_empty", Desk::with_session(80, 24, Vec::new()));
    let prompts: Vec<SessionRecord> =
        pairs(4).into_iter().filter(|record| matches!(record, SessionRecord::Prompted(_))).collect();
    snap("label_no_answers", Desk::with_session(80, 24, prompts));
    snap("label_busy", busy_label());
    let mut diff = busy_label();
    diff.keys("d tab");
    snap("label_diff", diff);
    let mut done = Desk::with_session(80, 24, pairs(2));
    done.keys("1 2");
    snap("label_done", done);
}

#[test]
fn popups() {
    let mut help = busy_label();
    help.keys("?");
    snap("help", help);
    let mut palette = busy_home();
    palette.keys(": w a t");
    snap("palette", palette);
    let mut name = busy_home();
    name.keys("n");
    name.type_text("story-tone");
    name.keys("enter");
    snap("new_session_name", name);
    let mut edit = Desk::with_session(120, 40, pairs(2));
    edit.keys("e");
    snap("edit", edit);
}

#[test]
fn without_colour_and_unicode_the_screen_says_the_same() {
    let mut desk = busy_label();
    desk.model.theme = Theme { colour: false, ascii: true, light: false };
    let text = paint(&desk.model);
    let own: String = text.chars().filter(|c| "─│┬›…✓·█░▎".contains(*c)).collect();
    assert_eq!(own, "", "{text}");
    assert!(text.contains("+ saved") && text.contains("7 of 12"), "{text}");
}

#[test]
fn any_size_can_be_drawn() {
    let mut desks = vec![busy_home(), busy_label(), busy_label(), busy_home(), busy_label(), busy_label()];
    desks[2].keys("?");
    desks[3].keys(":");
    desks[4].keys("e");
    desks[5].keys("z d");
    for desk in &mut desks {
        for w in (0..130).step_by(3) {
            for h in (0..40).step_by(3) {
                desk.send(Msg::Resize(w, h));
                if w > 0 && h > 0 {
                    let text = desk.screen();
                    if w >= 45 && (w < 60 || h < 16) {
                        assert!(text.contains(&format!("too small: needs 60x16, is {w}x{h}")), "{w}x{h}: {text}");
                    }
                }
            }
        }
    }
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let mut records = pairs(1);
    for record in &mut records {
        if let SessionRecord::Completed(c) = record {
            std::sync::Arc::make_mut(c).text =
                format!("\u{1b}[2J\u{1b}]0;owned\u{7}a\u{202e}b\rc {}\u{0}é", "\u{301}".repeat(4000)).into();
        }
    }
    let desk = Desk::with_session(80, 24, records);
    let text = desk.screen();
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    assert!(text.contains("[2J") && text.contains("owned"), "it shows as text: {text}");
}

#[test]
fn tiny_areas_do_not_panic() {
    use ratatui::{buffer::Buffer, layout::Rect};
    let desk = busy_label();
    for (w, h) in [(0, 0), (0, 5), (5, 0), (1, 1), (59, 16), (60, 15)] {
        let area = Rect::new(0, 0, w, h);
        tiebreak::ui::paint(&mut Buffer::empty(area), area, &desk.model);
    }
}

#[test]
fn the_svg_shows_what_the_screen_shows() {
    use ratatui::{buffer::Buffer, layout::Rect};
    let mut desk = busy_label();
    desk.keys("d");
    desk.send(Msg::Resize(100, 30));
    let area = Rect::new(0, 0, 100, 30);
    let mut buf = Buffer::empty(area);
    tiebreak::ui::paint(&mut buf, area, &desk.model);
    buf.set_string(0, 25, "a < b & \"c\" 日本 x", ratatui::style::Style::new());
    let svg = tiebreak::ui::svg(&buf, "labelling <one> pair");
    assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("<title>labelling &lt;one&gt; pair</title>"));
    assert!(svg.contains("a &lt; b &amp; &quot;c&quot; "), "{svg}");
    assert!(svg.contains("font-weight=\"bold\"") && svg.contains("underline"));
    // Every text is inside the picture, and every tag is closed.
    assert_eq!(svg.matches("<text ").count(), svg.matches("</text>").count());
    let width: f64 = svg.split("viewBox=\"0 0 ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    for piece in svg.split("<text ").skip(1) {
        let number = |name: &str| -> f64 {
            piece.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
        };
        assert!(number("x") + number("textLength") <= width, "{piece}");
    }
}
