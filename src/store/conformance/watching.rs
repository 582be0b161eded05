//! Events and those who watch them.

use super::*;
use crate::store::watch::{Interest, News};

fn say(claim: &Claim, text: &str) {
    claim.attempt.say(Draft::new(Kind::AgentText, text)).unwrap();
}

pub fn events_have_rising_cursors_and_pages_go_on(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = submit(&*store, "t");
    let running = claim(&*store);
    (0..7).for_each(|n| say(&running, &n.to_string()));
    end_well(&running);
    let all = all_events(&*store, &id);
    let expected = [vec!["queued", "claimed"], vec!["agent_text"; 7], vec!["agent_ended", "ended"]].concat();
    assert_eq!(kinds(&all), expected);
    let cursors: Vec<Cursor> = all.iter().map(Event::cursor).collect();
    assert!(cursors.is_sorted() && cursors.iter().map(Cursor::to_string).is_sorted());
    let record = get(&*store, &id).unwrap();
    for limit in 1..=12 {
        let (mut pages, mut after) = (Vec::new(), Cursor::START);
        loop {
            let page = store.events(&record, after, limit).unwrap();
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = last.cursor();
            pages.extend(page.iter().map(Event::cursor));
        }
        assert_eq!(pages, cursors, "pages of {limit}");
    }
}

pub fn events_of_all_attempts_are_kept_in_order(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = submit(&*store, "t");
    for n in 1..=3 {
        let running = claim(&*store);
        say(&running, &format!("of attempt {n}"));
        if n < 3 { running.attempt.hand_back(leaves("drain")).unwrap() } else { drop(end_well(&running)) }
    }
    let events = all_events(&*store, &id);
    let of_attempt = ["claimed", "agent_text"];
    let expected = [
        &["queued"][..],
        &of_attempt,
        &["handed_back"],
        &of_attempt,
        &["handed_back"],
        &of_attempt,
        &["agent_ended", "ended"],
    ];
    assert_eq!(kinds(&events), expected.concat());
    let of_third = events.iter().filter(|event| event.attempt == 3 && event.kind == Kind::AgentText);
    assert_eq!(of_third.map(|event| event.text.as_str()).collect::<Vec<_>>(), ["of attempt 3"]);
}

pub fn the_end_is_heard_without_asking(bench: &mut dyn Bench) {
    let store = bench.store();
    let (ends, stays) = (submit(&*store, "1"), submit(&*store, "2"));
    let watcher = store.watch(&ends, Interest::End, Cursor::START);
    let other = store.watch(&stays, Interest::End, Cursor::START);
    assert!(watcher.wait(Duration::from_millis(50)).is_none());
    end_well(&claim(&*store));
    assert!(matches!(watcher.wait(PATIENCE), Some(News::Ended)));
    assert!(get(&*store, &ends).unwrap().status().has_ended(), "what is heard can be read");
    assert!(other.wait(Duration::from_millis(50)).is_none());
    store.cancel(&stays, None).unwrap();
    assert!(matches!(other.wait(PATIENCE), Some(News::Ended)));
}

/// Follows a job as a reader would, to its end; the cursors in the order in which they were heard.
fn follow(store: &dyn Store, id: &JobId, mut meanwhile: impl FnMut(usize)) -> Vec<Cursor> {
    let watcher = store.watch(id, Interest::Events, Cursor::START);
    let (mut heard, mut at) = (Vec::new(), Cursor::START);
    let until = Instant::now() + PATIENCE;
    let mut reads = true;
    loop {
        assert!(Instant::now() < until, "the end was never heard: {heard:?}");
        if std::mem::take(&mut reads) {
            watcher.catch_up();
            let record = get(store, id).unwrap();
            let page = store.events(&record, at, 3).unwrap();
            let is_over = page.is_empty() && record.status().has_ended();
            reads = !page.is_empty();
            heard.extend(page.iter().map(Event::cursor));
            at = heard.last().copied().unwrap_or(at);
            watcher.has_read(at);
            if is_over {
                return heard;
            }
        }
        meanwhile(heard.len());
        match watcher.wait(Duration::from_millis(20)) {
            Some(News::Event(event)) => {
                at = event.cursor();
                heard.push(at);
            }
            Some(News::Behind | News::Ended) => reads = true,
            None => {}
        }
    }
}

pub fn a_watcher_hears_everything_once(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = submit(&*store, "t");
    let mut running = None;
    let mut rounds = 0;
    let heard = follow(&*store, &id, |_| {
        rounds += 1;
        match rounds {
            2 | 30 => running = Some(claim(&*store)),
            20 => running.take().unwrap().attempt.hand_back(leaves("drain")).unwrap(),
            60 => drop(end_well(running.as_ref().unwrap())),
            3..60 => {
                if let Some(running) = &running {
                    (0..rounds % 4).for_each(|_| say(running, "x"));
                }
            }
            _ => {}
        }
    });
    let all: Vec<Cursor> = all_events(&*store, &id).iter().map(Event::cursor).collect();
    assert!(all.len() > 50);
    assert_eq!(heard, all);
}

pub fn an_end_before_the_watch_is_found_by_reading(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = submit(&*store, "t");
    end_well(&claim(&*store));
    assert_eq!(follow(&*store, &id, |_| {}).len(), 4);
}

pub fn chatter_beyond_the_limit_is_cut_and_said(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = submit(&*store, "t");
    let running = claim(&*store);
    (0..5_200).for_each(|_| say(&running, "x"));
    end_well(&running);
    let events = all_events(&*store, &id);
    assert!(events.len() <= crate::event::EVENTS_LIMIT as usize, "{}", events.len());
    assert_eq!(events.iter().filter(|event| event.kind == Kind::EventsCut).count(), 1);
    assert_eq!(kinds(&events)[events.len() - 2..], ["agent_ended", "ended"]);
}

pub fn events_survive_a_restart(bench: &mut dyn Bench) {
    let id = submit(&*bench.store(), "t");
    let running = claim(&*bench.store());
    (0..20).for_each(|n| say(&running, &"x".repeat(n * 500)));
    running.attempt.mark(Mark::Pushed, Some(Draft::new(Kind::Pushed, "b"))).unwrap();
    let before: Vec<Cursor> = all_events(&*bench.store(), &id).iter().map(Event::cursor).collect();
    drop(running);
    bench.restart();
    let after: Vec<Cursor> = all_events(&*bench.store(), &id).iter().map(Event::cursor).collect();
    assert_eq!(after[..before.len()], before);
}
