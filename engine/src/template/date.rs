//! `strftime_now`: dates in templates, from a moment that the caller names.

use std::fmt::Write;

use time::OffsetDateTime;

/// The moment in Python's `strftime` spelling. Unknown directives are kept as they are.
pub(super) fn strftime(now: OffsetDateTime, format: &str) -> String {
    let mut text = String::with_capacity(format.len() + 16);
    let mut rest = format.chars();
    while let Some(next) = rest.next() {
        if next != '%' {
            text.push(next);
            continue;
        }
        let mut directive = rest.next().unwrap_or('%');
        let padded = directive != '-';
        if !padded {
            directive = rest.next().unwrap_or('-');
        }
        push(&mut text, now, directive, padded);
    }
    text
}

fn push(text: &mut String, now: OffsetDateTime, directive: char, padded: bool) {
    let number = |value: u8| if padded { format!("{value:02}") } else { value.to_string() };
    let (month, day) = (now.month().to_string(), now.weekday().to_string());
    let part = match directive {
        'Y' => now.year().to_string(),
        'y' => format!("{:02}", now.year().rem_euclid(100)),
        'm' => number(now.month().into()),
        'd' => number(now.day()),
        'H' => number(now.hour()),
        'M' => number(now.minute()),
        'S' => number(now.second()),
        'I' => number((now.hour() + 11) % 12 + 1),
        'p' => if now.hour() < 12 { "AM" } else { "PM" }.to_owned(),
        'j' => format!("{:03}", now.ordinal()),
        'B' => month,
        'b' => month[..3].to_owned(),
        'A' => day,
        'a' => day[..3].to_owned(),
        '%' => "%".to_owned(),
        unknown => format!("%{unknown}"),
    };
    text.write_str(&part).expect("writing into a string cannot fail");
}
