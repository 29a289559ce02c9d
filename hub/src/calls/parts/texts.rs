//! Tests of texts, made where the texts lie in their pages: no array is made of them, and what is asked of a text's inside
//! is looked for in a whole page at once.

use datafusion::arrow::array::BooleanBufferBuilder;
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::error::Result;
use datafusion::parquet::basic::Encoding;
use datafusion::parquet::column::page::Page;
use memchr::memmem::Finder;

use super::Group;
use super::pages::{Texts, numbers};

/// What may hold for a text.
#[derive(Clone, Debug)]
pub enum Test {
    /// It is this one.
    Is(Box<[u8]>),
    /// It begins like this.
    Begins(Box<[u8]>),
    /// This is somewhere in it.
    Contains(Box<Finder<'static>>),
}

impl Test {
    /// That a text is this one.
    pub fn is(text: &str) -> Self {
        Self::Is(text.as_bytes().into())
    }

    /// That it begins like this.
    pub fn begins(text: &str) -> Self {
        Self::Begins(text.as_bytes().into())
    }

    /// That this is somewhere in it.
    pub fn contains(text: &str) -> Self {
        Self::Contains(Box::new(Finder::new(text).into_owned()))
    }

    /// Whether it holds.
    #[inline]
    pub fn holds(&self, text: &[u8]) -> bool {
        match self {
            Self::Is(is) => text == &**is,
            Self::Begins(begin) => text.starts_with(begin),
            Self::Contains(finder) => finder.find(text).is_some(),
        }
    }

    /// Hands over the ordinals of those of a page's texts for which it holds.
    fn among(&self, page: &[u8], mut take: impl FnMut(usize)) -> Option<()> {
        let Self::Contains(finder) = self else {
            let mut nth = 0;
            let mut texts = Texts(page);
            while !texts.0.is_empty() {
                if self.holds(texts.next()?) {
                    take(nth);
                }
                nth += 1;
            }
            return Some(());
        };
        // Lengths stand between the texts: what is found there, or reaches over one, is in none of them.
        let find = |from: usize| Some(from + finder.find(page.get(from..)?)?);
        let (mut texts, mut nth, mut next) = (Texts(page), 0, find(0));
        while let Some(at) = next {
            let text = texts.next()?;
            let end = page.len() - texts.0.len();
            let begin = end - text.len();
            if at < begin {
                next = find(begin);
            }
            if next.is_some_and(|at| at + finder.needle().len() <= end) {
                take(nth);
            }
            nth += 1;
            if texts.0.is_empty() {
                break;
            }
        }
        Some(())
    }
}

impl Group {
    /// Those of the rows that are set in `among` for whose text in a column a test holds. `None` for a column that has more
    /// than a text for each row, or is not in the part.
    ///
    /// # Errors
    /// The part cannot be read.
    pub fn texts_that(
        &self,
        test: &Test,
        column: &str,
        among: &BooleanBuffer,
    ) -> Result<Option<BooleanBuffer>> {
        let Some(leaf) = self.first_leaf(column) else {
            return Ok(None);
        };
        let schema = self.part.plain.parquet_schema().column(leaf);
        if schema.max_def_level() > 0 || schema.max_rep_level() > 0 {
            return Ok(None);
        }
        let all_words = self.is_of_words(leaf);
        let mut truths: Vec<bool> = Vec::new();
        let mut found = BooleanBufferBuilder::new(among.len());
        self.pages(leaf, among, |first, page| {
            let (values, count, encoding) = match page {
                Page::DictionaryPage { buf, .. } => {
                    truths.extend(Texts(&buf).map(|word| test.holds(word)));
                    let nowhere = all_words && !truths.contains(&true);
                    return Some(if nowhere { among.len() } else { 0 });
                }
                Page::DataPage {
                    buf,
                    num_values,
                    encoding,
                    ..
                } => (buf, num_values as usize, encoding),
                Page::DataPageV2 { .. } => return None,
            };
            // Pages before it may have been passed over.
            found.append_n(first.checked_sub(found.len())?, false);
            match encoding {
                Encoding::PLAIN => {
                    let mut told = 0;
                    test.among(&values, |nth| {
                        if told <= nth && nth < count {
                            found.append_n(nth - told, false);
                            found.append(true);
                            told = nth + 1;
                        }
                    })?;
                    found.append_n(count - told, false);
                }
                Encoding::RLE_DICTIONARY if truths.contains(&true) => {
                    numbers(&values, count, |number, times| {
                        let truth = truths.get(number as usize).copied().unwrap_or(false);
                        if times == 1 {
                            found.append(truth);
                        } else {
                            found.append_n(times, truth);
                        }
                    })?;
                }
                Encoding::RLE_DICTIONARY => found.append_n(count, false),
                _ => return None,
            }
            Some(count)
        })?;
        let Some(behind) = among.len().checked_sub(found.len()) else {
            return Err(self.broken(leaf));
        };
        found.append_n(behind, false);
        Ok(Some(&found.finish() & among))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use datafusion::arrow::array::{Array, AsArray};
    use wiretape_dissect::{Call, Marks, Outcome, Peer};

    use super::*;
    use crate::calls::parts::{Parts, Texts as Layout};
    use crate::calls::{Names, PartWriter, Rows};

    /// More than a dictionary takes of paths that do not repeat, and than a page.
    const CALLS: u64 = 9_001;

    /// Paths of which few repeat at first, and many later; the method repeats from the beginning.
    fn call(number: u64) -> Call {
        let peer = |port| Peer {
            address: SocketAddr::from(([10, 0, 0, 1], port)),
            tape: None,
            cgroup: 0,
        };
        Call {
            stream: number,
            index: 0,
            protocol: "http",
            version: "HTTP/1.1",
            client: peer(40_000),
            server: peer(80),
            method: ["GET", "POST", ""][number as usize % 3].into(),
            path: if number > 5_000 && !number.is_multiple_of(3) {
                ["/cart", ""][number as usize % 2].to_owned()
            } else {
                format!("/orders/{number}")
            },
            query: String::new(),
            authority: String::new(),
            status: None,
            outcome: Outcome::Ok,
            request: None,
            response: None,
            marks: Marks::default(),
            client_side: None,
            server_side: None,
            unknown_side: None,
            fields: Vec::new(),
        }
    }

    #[test]
    fn tests_in_the_pages_find_the_rows_whose_texts_they_hold_for() {
        let folder = tempfile::tempdir().unwrap();
        let rows = Rows::new(Arc::new(Names::new(Vec::new())), Arc::from(["n".to_owned()]));
        let mut part = PartWriter::create(&folder.path().join("part-0.parquet"), rows, 1).unwrap();
        for number in 0..CALLS {
            part.push(&[call(number)]).unwrap();
        }
        part.finish().unwrap();
        let parts = Parts::open(folder.path()).unwrap();
        let [group] = parts.groups() else {
            panic!("{} row groups", parts.groups().len())
        };
        assert!(!group.has_words("path") && group.has_words("method"));
        let every = |nth| BooleanBuffer::collect_bool(group.rows(), |row| row % nth == 0);
        for (column, wanted) in [
            ("path", ["/orders/77", "/cart", "", "none"]),
            ("method", ["GET", "POST", "", "none"]),
        ] {
            let all = every(1);
            let texts = group.read(column, Layout::Plain, &all).unwrap();
            let texts = texts.as_string_view();
            assert_eq!(texts.len(), group.rows());
            for wanted in wanted {
                // All rows, some of every page, and few.
                for nth in [1, 2, 4_000] {
                    let among = every(nth);
                    for test in [Test::contains(wanted), Test::begins(wanted), Test::is(wanted)] {
                        let found = group.texts_that(&test, column, &among).unwrap().unwrap();
                        let expected = BooleanBuffer::collect_bool(group.rows(), |row| {
                            among.value(row) && test.holds(texts.value(row).as_bytes())
                        });
                        assert_eq!(found, expected, "{test:?} of {column}, every {nth}");
                    }
                }
            }
        }
        // More than a text for each row, and no column of it.
        let test = Test::is("");
        for column in ["req_headers", "of_another_time"] {
            assert_eq!(group.texts_that(&test, column, &every(1)).unwrap(), None);
        }
    }

    fn page(texts: &[&[u8]]) -> Vec<u8> {
        let mut page = Vec::new();
        for text in texts {
            page.extend_from_slice(&(text.len() as u32).to_le_bytes());
            page.extend_from_slice(text);
        }
        page
    }

    #[test]
    fn what_is_looked_for_in_a_page_is_found_in_its_texts_and_not_between_them() {
        // Lengths are bytes that may be looked for, too: that of the third text is a letter.
        let long = [b'b'; b'a' as usize];
        let texts: [&[u8]; 9] = [
            b"",
            b"ab",
            &long,
            b"a\0\0\0b",
            b"",
            b"xab",
            b"abab",
            b"\x02\0\0\0",
            b"a",
        ];
        let page = page(&texts);
        for needle in [
            "ab",
            "a",
            "b",
            "\0",
            "a\0\0",
            "\u{2}\0\0\0",
            "bb",
            "xabab",
            "aba",
            "none",
        ] {
            for test in [Test::contains(needle), Test::begins(needle), Test::is(needle)] {
                let mut found = Vec::new();
                test.among(&page, |nth| found.push(nth)).unwrap();
                let expected: Vec<usize> = (0..texts.len()).filter(|nth| test.holds(texts[*nth])).collect();
                assert_eq!(found, expected, "{test:?}");
            }
        }
    }

    #[test]
    fn a_page_that_is_cut_off_is_told() {
        let whole = page(&[b"one", b"two"]);
        let cut = &whole[..whole.len() - 1];
        assert_eq!(Test::is("two").among(cut, |_| ()), None);
        assert_eq!(Test::contains("tw").among(cut, |_| ()), None);
    }
}
