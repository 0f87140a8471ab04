package filter_test

import (
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/filter"
	"eventhooks/internal/strictjson"
)

func parse(t testing.TB, doc string) *filter.Pattern {
	t.Helper()
	p, err := filter.Parse([]byte(doc))
	if err != nil {
		t.Fatalf("Parse(%s): %v", doc, err)
	}
	return p
}

// encode writes a pattern or data.
func encode(t testing.TB, v any) string {
	t.Helper()
	b, err := strictjson.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestParse_size(t *testing.T) {
	sized := func(n int) string {
		const frame = `{"a":["%s"]}`
		return fmt.Sprintf(frame, strings.Repeat("x", n-len(fmt.Sprintf(frame, ""))))
	}
	t.Run("the largest one", func(t *testing.T) {
		parse(t, sized(filter.MaxBytes))
	})
	t.Run("one byte more", func(t *testing.T) {
		_, err := filter.Parse([]byte(sized(filter.MaxBytes + 1)))
		if err == nil || err.Error() != "expected at most 4096 bytes, got 4097" {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("blanks between tokens do not count", func(t *testing.T) {
		parse(t, strings.Replace(sized(filter.MaxBytes), ":", strings.Repeat(" ", 5000)+":\n", 1))
	})
}

func TestParse_faults(t *testing.T) {
	_, err := filter.Parse([]byte(`{"a.b": [{"prefix": 5}], "c": 1}`))
	var all filter.Errors
	if !errors.As(err, &all) {
		t.Fatalf("err = %#v; want Errors", err)
	}
	want := filter.Errors{
		{Path: []string{"a.b", "1", "prefix"}, Text: "expected a string"},
		{Path: []string{"c"}, Text: "expected an array of alternatives, such as [1], or an object"},
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got, want := err.Error(), "a.b.1.prefix: expected a string; c: expected an array of alternatives, such as [1], or an object"; got != want {
		t.Errorf("Error() = %s; want %s", got, want)
	}
}

func TestPattern_none(t *testing.T) {
	for name, p := range map[string]*filter.Pattern{"nil": nil, "zero": {}} {
		for _, data := range []string{`{}`, `{"a": 1}`} {
			if !p.Match(decode(t, data)) || p.Explain(decode(t, data)) != nil {
				t.Errorf("the %s pattern refuses %s", name, data)
			}
		}
		if !p.Match(nil) {
			t.Errorf("the %s pattern refuses nothing at all", name)
		}
	}
}

// TestPattern_Explain_bounded has the worst filters and events that there can
// be: what is said of them stays within reason.
func TestPattern_Explain_bounded(t *testing.T) {
	var leaves, or []string
	for i := range 400 {
		leaves = append(leaves, fmt.Sprintf(`"%d":[1]`, i))
	}
	for i := range 250 {
		or = append(or, fmt.Sprintf(`{"%d":[1]}`, i))
	}
	nested := `{"a":[1]}`
	for range filter.MaxDepth - 1 {
		nested = `{"$or":[` + nested + `,{"b":[1]}]}`
	}
	data := decode(t, `{"0": "`+strings.Repeat("x", 200_000)+`", "1": [`+strings.Repeat(`"x",`, 50_000)+`"x"]}`)
	for _, doc := range []string{"{" + strings.Join(leaves, ",") + "}", `{"$or":[` + strings.Join(or, ",") + `]}`, nested} {
		size := 0
		why := parse(t, doc).Explain(data)
		for _, s := range why {
			size += len(s)
		}
		if len(why) == 0 || size > 64<<10 {
			t.Errorf("%.40s…: %d reasons of %d bytes; want some, of at most 64 KB", doc, len(why), size)
		}
	}
}

// TestPattern_Match_inTime would not come to its end if anything backtracked.
func TestPattern_Match_inTime(t *testing.T) {
	long := strings.Repeat("a", 250_000)
	tests := []struct {
		name, filter, data string
		want               bool
	}{
		{"eight stars and an end that is not there", `{"v": [{"wildcard": "*a*a*a*a*a*a*a*b"}]}`, `{"v": "` + long + `"}`, false},
		{"eight stars and an end that is there", `{"v": [{"wildcard": "*a*a*a*a*a*a*a*b"}]}`, `{"v": "` + long + `b"}`, true},
		{"long texts between stars", `{"v": [{"wildcard": "*` + strings.Repeat("a", 1000) + `b*` + strings.Repeat("a", 1000) + `c*"}]}`, `{"v": "` + long + `"}`, false},
		{"any case", `{"v": [{"suffix": {"equals-ignore-case": "` + strings.Repeat("A", 4000) + `"}}]}`, `{"v": "` + long + `"}`, true},
		{"a number of many digits", `{"v": [{"numeric": [">", 1]}]}`, `{"v": 0.` + strings.Repeat("0", 250_000) + `1}`, false},
		{"an exponent of many digits", `{"v": [{"numeric": [">", 1]}]}`, `{"v": 1e` + strings.Repeat("9", 250_000) + `}`, true},
		{"an array of many elements, many alternatives", `{"v": [` + strings.Repeat(`12,`, 1000) + `"x"]}`, `{"v": [` + strings.Repeat("1,", 90_000) + `12]}`, true},
		{"an array of many objects, many fields", `{"v": {"a": [1], "$or": [{"b": [1]}, {"c": [1]}]}}`, `{"v": [` + strings.Repeat(`{"a":1,"b":2},`, 15_000) + `{"a":1,"c":1}]}`, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := parse(t, tt.filter).Match(decode(t, tt.data)); got != tt.want {
				t.Errorf("Match = %v; want %v", got, tt.want)
			}
		})
	}
}

// FuzzParse feeds patterns and data: nothing panics, faults say something, and
// what is matched and what is explained agree.
func FuzzParse(f *testing.F) {
	for _, path := range []string{"exact", "text", "numbers", "anything-but", "exists", "nested", "or", "cidr", "faults"} {
		_, cases := readGolden(f, "testdata/"+path+".txt")
		for _, c := range cases {
			f.Add(c.filter, `{"a": {"b": [1, "x", null]}}`)
			for _, data := range c.match {
				f.Add(c.filter, data)
			}
			for _, r := range c.noMatch {
				f.Add(c.filter, r.data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, doc, data string) {
		p, err := filter.Parse([]byte(doc))
		if err != nil {
			for _, f := range faults(t, err) {
				if f == "" {
					t.Fatalf("Parse(%q): a fault without a text", doc)
				}
			}
			if p != nil {
				t.Fatalf("Parse(%q) gives a pattern and %v", doc, err)
			}
			return
		}
		v, err := strictjson.Decode([]byte(data), strictjson.Limits{})
		m, ok := v.(map[string]any)
		if err != nil || !ok {
			return
		}
		match, why := p.Match(m), p.Explain(m)
		if match != (why == nil) {
			t.Fatalf("filter %q, data %q: Match = %v, Explain = %q", doc, data, match, why)
		}
		if !slices.IsSorted(why) || slices.Contains(why, "") {
			t.Fatalf("filter %q, data %q: Explain = %q; want sentences, sorted", doc, data, why)
		}
		set := filter.NewSet(strings.Compare, func(string) *filter.Pattern { return p }, []string{"p"})
		if found := set.Match(m); (len(found) == 1) != match {
			t.Fatalf("filter %q, data %q: Match = %v, that of a set %q", doc, data, match, found)
		}
		// Written in another way it is the same filter.
		again, err := filter.Parse(strictjson.Compact(nil, []byte(doc)))
		if err != nil || again.Match(m) != match {
			t.Fatalf("filter %q without blanks: %v, Match is not %v on %q", doc, err, match, data)
		}
	})
}

// FuzzNumbers holds comparisons against rational numbers.
func FuzzNumbers(f *testing.F) {
	numbers := []string{"0", "-0", "1", "1.0", "10e-1", "-1", "0.1", "1e-1", "100", "1e2", "99.99999999999999999999", "12345678901234567890", "12345678901234567891", "1.2345678901234567890e19", "-3.5E+3", "0.00120", "12e-4", "1e400", "10e399"}
	for _, a := range numbers {
		for _, b := range numbers {
			f.Add(a, b)
		}
	}
	valid := regexp.MustCompile(`^-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?$`)
	f.Fuzz(func(t *testing.T, a, b string) {
		if !valid.MatchString(a) || !valid.MatchString(b) {
			return
		}
		x, _ := new(big.Rat).SetString(a)
		y, _ := new(big.Rat).SetString(b)
		c := y.Cmp(x)
		for sign, want := range map[string]bool{"<": c < 0, "<=": c <= 0, "=": c == 0, ">=": c >= 0, ">": c > 0} {
			p := parse(t, `{"n": [{"numeric": ["`+sign+`", `+a+`]}]}`)
			if got := p.Match(decode(t, `{"n": `+b+`}`)); got != want {
				t.Errorf("%s %s %s: Match = %v; want %v", b, sign, a, got, want)
			}
		}
		if got := parse(t, `{"n": [`+a+`]}`).Match(decode(t, `{"n": `+b+`}`)); got != (c == 0) {
			t.Errorf("[%s] on %s: Match = %v; want %v", a, b, got, c == 0)
		}
	})
}

// FuzzWildcard holds wildcards against regular expressions.
func FuzzWildcard(f *testing.F) {
	for _, w := range []string{"", "*", "a*", "*a", "a*b", "*a*", "aa*aa", "*ab*ab*", "a*ä*", "ab*ba*ab"} {
		for _, s := range []string{"", "a", "ab", "aab", "abab", "aaa", "aaaa", "abba", "xaäb", "ababab", "abbaab", "ab\nba*ab"} {
			f.Add(w, s)
		}
	}
	f.Fuzz(func(t *testing.T, w, s string) {
		if !strictUTF8(w) || !strictUTF8(s) || strings.ContainsAny(w, `\`) || strings.Contains(w, "**") || strings.Count(w, "*") > filter.MaxStars || len(w) > 1000 {
			return
		}
		re := regexp.MustCompile(`(?s)\A` + strings.ReplaceAll(regexp.QuoteMeta(w), `\*`, `.*`) + `\z`)
		p := parse(t, encode(t, map[string]any{"v": []any{map[string]any{"wildcard": w}}}))
		if got, want := p.Match(map[string]any{"v": s}), re.MatchString(s); got != want {
			t.Errorf("%q on %q: Match = %v; want %v", w, s, got, want)
		}
	})
}

// FuzzFold holds prefixes and suffixes in any case against strings.EqualFold.
func FuzzFold(f *testing.F) {
	for _, s := range []string{"", "a", "Kk", "kK", "ſs", "straße", "ΑΣς", "ıİiI", "aé"} {
		f.Add(s, strings.ToUpper(s)+"x", "x"+strings.ToLower(s))
	}
	f.Fuzz(func(t *testing.T, want, head, tail string) {
		if !strictUTF8(want) || !strictUTF8(head) || !strictUTF8(tail) || len(want) > 300 {
			return
		}
		fold := map[string]any{"equals-ignore-case": want}
		p := parse(t, encode(t, map[string]any{"v": []any{map[string]any{"prefix": fold}}}))
		s := parse(t, encode(t, map[string]any{"v": []any{map[string]any{"suffix": fold}}}))
		n := len([]rune(want))
		runes := []rune(head)
		expect := len(runes) >= n && strings.EqualFold(string(runes[:n]), want)
		if got := p.Match(map[string]any{"v": head}); got != expect {
			t.Errorf("prefix %q of %q: Match = %v; want %v", want, head, got, expect)
		}
		runes = []rune(tail)
		expect = len(runes) >= n && strings.EqualFold(string(runes[len(runes)-n:]), want)
		if got := s.Match(map[string]any{"v": tail}); got != expect {
			t.Errorf("suffix %q of %q: Match = %v; want %v", want, tail, got, expect)
		}
	})
}

// strictUTF8 reports whether a text can come in a JSON document as it is.
func strictUTF8(s string) bool {
	return strings.ToValidUTF8(s, "\x00") == s && !strings.Contains(s, "\x00")
}

var health = `{"upstream_id": "0197a0b1-0000-7000-8000-000000000001", "ip": "10.16.0.2", "port": 3000, "hostname": "web1.example.test", "health": "unhealthy"}`

func BenchmarkParse(b *testing.B) {
	doc := []byte(`{"health": ["unhealthy"], "ip": [{"cidr": "10.16.0.0/16"}], "port": [{"numeric": [">=", 3000, "<", 4000]}]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := filter.Parse(doc); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPattern_Match(b *testing.B) {
	data := decode(b, health)
	for _, doc := range []string{
		`{"health": ["unhealthy"]}`,
		`{"hostname": [{"suffix": ".example.test"}]}`,
		`{"hostname": [{"prefix": {"equals-ignore-case": "WEB"}}]}`,
		`{"hostname": [{"wildcard": "web*.example.*"}]}`,
		`{"port": [{"numeric": [">=", 3000, "<", 4000]}]}`,
		`{"ip": [{"cidr": "10.16.0.0/16"}]}`,
		`{"health": [{"anything-but": ["healthy"]}]}`,
		`{"workspace": [{"exists": false}]}`,
	} {
		p := parse(b, doc)
		b.Run(doc, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !p.Match(data) {
					b.Fatal("no match")
				}
			}
		})
	}
}
