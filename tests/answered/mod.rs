//! What must be true of reading any text. tests/any_text.rs and the fuzz target share it.

use nkudo::config::{
    Diagnostic, Outcome, Place, Source, explain, load, load_with_origins, render, warnings,
};
use nkudo::host::{Capacity, Size};

/// Reads the texts as the files of one configuration.
pub(crate) fn read(texts: &[String]) -> (Vec<Source>, Outcome) {
    let sources: Vec<Source> = texts
        .iter()
        .enumerate()
        .map(|(number, text)| Source {
            name: format!("{number}.toml"),
            text: text.clone(),
        })
        .collect();
    let outcome = load(&sources);
    (sources, outcome)
}

pub(crate) fn is_answered(texts: &[String]) {
    let (sources, outcome) = read(texts);
    // Either a host or reasons why not.
    assert_eq!(outcome.host.is_some(), outcome.diagnostics.is_empty());
    let lies_within = |place: &Place| {
        let text = &sources[place.source].text;
        assert!(text.get(place.span.clone()).is_some(), "{place:?}");
    };
    for Diagnostic { place, related, .. } in &outcome.diagnostics {
        lies_within(place);
        for (place, _) in related {
            lies_within(place);
        }
    }
    let said = render(&outcome.diagnostics, &sources);
    assert!(said.matches("error: ").count() >= outcome.diagnostics.len());
    let (again, origins) = load_with_origins(&sources);
    assert_eq!(again, outcome, "the same again is another answer");
    let Some(host) = outcome.host else {
        return;
    };
    let small = Capacity {
        memory: Some(Size::from_mib(1)),
        cpus: Some(1),
        hugepages: [(Size::from_mib(2), 0)].into(),
    };
    let found = warnings(&host, &origins, &small);
    for one in &found {
        lies_within(&one.place);
    }
    render(&found, &sources);
    // What is explained is the configuration with every default written out.
    let subjects = origins.entries().map(|(entry, _)| entry.to_string());
    let full: String = std::iter::once("host".to_owned())
        .chain(subjects)
        .map(|subject| {
            let subject = subject.parse().expect("what is declared can be named");
            explain(&subject, &origins, &sources).expect("it is there")
        })
        .collect();
    let explained = [Source {
        name: "explained.toml".to_owned(),
        text: full,
    }];
    let again = load(&explained);
    let said = render(&again.diagnostics, &explained);
    assert!(again.host == Some(host), "{said}\n{}", explained[0].text);
}
