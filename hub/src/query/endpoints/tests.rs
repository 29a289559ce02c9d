use super::*;

fn learned<'a>(paths: impl IntoIterator<Item = &'a str>) -> Endpoints {
    let mut places = Places::new(MAX_NAMES);
    for path in paths {
        places.add(&rules::parts(path)).unwrap();
    }
    Endpoints {
        places: BTreeMap::from([("http".to_owned(), places)]),
        names: MAX_NAMES,
    }
}

#[test]
fn values_are_told_by_the_way_they_are_written() {
    let endpoints = learned([]);
    for (path, endpoint) in [
        ("", ""),
        ("/", "/"),
        ("/users/123", "/users/{id}"),
        ("/users/-1/", "/users/{id}/"),
        ("//users//7", "//users//{id}"),
        ("/api/v1/checkout", "/api/v1/checkout"),
        ("/o/123e4567-e89b-12d3-a456-426614174000/x", "/o/{uuid}/x"),
        ("/o/123e4567-e89b-12d3-a456-42661417400/x", "/o/{token}/x"),
        ("/log/2024-02-01", "/log/{date}"),
        ("/log/2024-02-01T01:00:00.5Z/x", "/log/{date}/x"),
        ("/blob/9f86d081", "/blob/{hex}"),
        ("/blob/0xdeadbeef1", "/blob/{hex}"),
        ("/blob/deadbeef", "/blob/deadbeef"),
        ("/blob/9f86d081.png", "/blob/{hex}.png"),
        ("/v2.0/app.js", "/v2.0/app.js"),
        ("/s/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0", "/s/{token}"),
        ("/internationalization-settings", "/internationalization-settings"),
        (
            "/blog/how-to-make-a-pizza-in-5-minutes",
            "/blog/how-to-make-a-pizza-in-5-minutes",
        ),
        ("/users/7:activate", "/users/{id}:activate"),
        ("user:42:cart", "user:{id}:cart"),
        ("/ä/ö/7", "/ä/ö/{id}"),
    ] {
        assert_eq!(endpoints.of("http", path), endpoint, "{path}");
    }
}

#[test]
fn a_path_longer_than_is_looked_at() {
    let path = "/a".repeat(rules::MAX_PARTS + 3);
    let expected = format!("{}/{{rest}}", "/a".repeat(rules::MAX_PARTS));
    assert_eq!(learned([]).of("http", &path), expected);
    let colons = "b:".repeat(100);
    assert!(rules::parts(&colons).len() <= 2 * rules::MAX_PARTS + 1);
}

#[test]
fn a_place_with_more_texts_than_names_is_a_value() {
    let users: Vec<String> = (0..=MAX_NAMES).map(|n| format!("/users/name{n}x/cart")).collect();
    let few = learned(users.iter().skip(1).map(String::as_str));
    assert_eq!(few.of("http", "/users/name5x/cart"), "/users/name5x/cart");
    let many = learned(
        users
            .iter()
            .map(String::as_str)
            .chain(["/users/7/cart", "/health"]),
    );
    assert_eq!(many.of("http", "/users/name5x/cart"), "/users/{value}/cart");
    assert_eq!(many.of("http", "/users/7/cart"), "/users/{id}/cart");
    assert_eq!(many.of("http", "/health"), "/health");
    // Another protocol's names are its own.
    assert_eq!(many.of("redis", "/users/name5x/cart"), "/users/name5x/cart");
    let legend = many.legend(["/users/{value}/cart", "/users/{id}"].into_iter());
    assert_eq!(
        legend,
        json!({"{id}": "a number", "{value}": "one of more than 100 different texts in this place"})
    );
}

#[test]
fn order_and_division_of_the_paths_do_not_matter() {
    let mut paths = Vec::new();
    for user in 0..150 {
        paths.push(format!("/u/n{user}x/a"));
        paths.push(format!("/u/n{user}x/b{}y/z", user % 110));
        paths.push(format!("/w/n{}x", user % 90));
    }
    let names = |endpoints: &Endpoints| -> Vec<String> {
        paths.iter().map(|path| endpoints.of("http", path)).collect()
    };
    let forward = learned(paths.iter().map(String::as_str));
    let backward = learned(paths.iter().rev().map(String::as_str));
    assert_eq!(names(&forward), names(&backward));
    for at in [1, 100, 300, 449] {
        let (first, second) = paths.split_at(at);
        let mut left = Places::new(MAX_NAMES);
        let mut right = Places::new(MAX_NAMES);
        for (places, paths) in [(&mut left, first), (&mut right, second)] {
            for path in paths {
                places.add(&rules::parts(path)).unwrap();
            }
        }
        right.merge(left).unwrap();
        let endpoints = Endpoints {
            places: BTreeMap::from([("http".to_owned(), right)]),
            names: MAX_NAMES,
        };
        assert_eq!(names(&forward), names(&endpoints), "{at}");
    }
    assert!(names(&forward).contains(&"/u/{value}/{value}/z".to_owned()));
    assert!(names(&forward).contains(&"/w/n5x".to_owned()));
}

#[test]
fn more_places_than_are_kept() {
    let mut places = Places::new(MAX_NAMES);
    let mut full = false;
    for n in 0..places::MAX_PLACES + 2 {
        let (a, b, c) = (n % 100, n / 100 % 100, n / 10_000);
        let path = format!("/a{a}x/b{b}x/c{c}x");
        full |= places.add(&rules::parts(&path)) == Err(Full);
    }
    assert!(full);
}

#[test]
fn examples_are_the_first_two() {
    let mut examples = Examples::default();
    for path in ["/c", "/b", "/d", "/b", "/a"] {
        examples.add(path);
    }
    assert_eq!(examples.shown(), json!(["/a", "/b"]));
}
