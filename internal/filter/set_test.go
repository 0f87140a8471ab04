package filter_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"eventhooks/internal/filter"
)

// rule is a pattern in a set, known by a number.
type rule struct {
	n       int
	pattern *filter.Pattern
	doc     string
}

// rules is a set that counts how often a pattern was asked for, and how often
// two were compared.
type rules struct {
	*filter.Set[rule]
	asked, compared int
}

func newRules(t testing.TB, docs ...string) *rules {
	t.Helper()
	var r rules
	var all []rule
	for i, doc := range docs {
		all = append(all, rule{i, parse(t, doc), doc})
	}
	r.Set = filter.NewSet(r.compare, r.pattern, all)
	return &r
}

func byNumber(a, b rule) int { return cmp.Compare(a.n, b.n) }

func (r *rules) compare(a, b rule) int {
	r.compared++
	return byNumber(a, b)
}

func (r *rules) pattern(of rule) *filter.Pattern {
	r.asked++
	return of.pattern
}

// match returns the numbers of the patterns that fit, and how many were asked.
func (r *rules) match(t testing.TB, data string) (fit []int, asked int) {
	t.Helper()
	r.asked, r.compared = 0, 0
	for _, m := range r.Match(decode(t, data)) {
		fit = append(fit, m.n)
	}
	return fit, r.asked
}

// TestSet_Match_asks says which patterns are asked about which data.
func TestSet_Match_asks(t *testing.T) {
	tests := []struct {
		name, filter, data string
		asked              bool
	}{
		{"a text that is there", `{"a": ["x"]}`, `{"a": "x"}`, true},
		{"another text", `{"a": ["x"]}`, `{"a": "y"}`, false},
		{"the text in another field", `{"a": ["x"]}`, `{"b": "x", "c": {"a": "x"}}`, false},
		{"no text", `{"a": ["1"]}`, `{"a": 1}`, false},
		{"each of several texts", `{"a": ["x", "y"]}`, `{"a": "y"}`, true},
		{"none of several texts", `{"a": ["x", "y"]}`, `{"a": "z"}`, false},
		{"true", `{"a": [true]}`, `{"a": true}`, true},
		{"true and false", `{"a": [true]}`, `{"a": false}`, false},
		{"false", `{"a": [false]}`, `{"a": false}`, true},
		{"null", `{"a": [null]}`, `{"a": null}`, true},
		{"null and absent", `{"a": [null]}`, `{"b": null}`, false},
		{"null and false", `{"a": [null]}`, `{"a": false}`, false},
		{"null and the empty text", `{"a": [null]}`, `{"a": ""}`, false},
		{"a number, however it is written", `{"a": [12.50]}`, `{"a": 125e-1}`, true},
		{"a number with zeros", `{"a": [0.0012]}`, `{"a": 0.00120}`, true},
		{"a large number", `{"a": [1e3]}`, `{"a": 1000}`, true},
		{"zero", `{"a": [0]}`, `{"a": -0.0e7}`, true},
		{"a number with another sign", `{"a": [1]}`, `{"a": -1}`, false},
		{"a number of the same digits", `{"a": [1]}`, `{"a": 10}`, false},
		{"a number beyond all others", `{"a": [1]}`, `{"a": 1e99999999999999999999}`, false},
		{"numeric =", `{"a": [{"numeric": ["=", 5]}]}`, `{"a": 5.0}`, true},
		{"numeric = of another number", `{"a": [{"numeric": ["=", 5]}]}`, `{"a": 6}`, false},
		{"inside an object", `{"a": {"b": ["x"]}}`, `{"a": {"b": "x"}}`, true},
		{"inside another object", `{"a": {"b": ["x"]}}`, `{"b": {"b": "x"}}`, false},
		{"not inside an object", `{"a": {"b": ["x"]}}`, `{"a": "x", "b": "x"}`, false},
		{"an object instead of a value", `{"a": ["x"]}`, `{"a": {"a": "x"}}`, false},
		{"an element", `{"a": ["x"]}`, `{"a": ["y", ["x"]]}`, true},
		{"no element", `{"a": ["x"]}`, `{"a": ["y", {"a": "x"}]}`, false},
		{"inside an object in an array", `{"a": {"b": ["x"]}}`, `{"a": ["x", [{"b": "y"}, {"b": ["x"]}]]}`, true},
		{"beside an operator", `{"a": ["x"], "b": [{"prefix": "p"}]}`, `{"a": "y", "b": "p"}`, false},
		{"beside $or", `{"a": ["x"], "$or": [{"b": [1]}, {"c": [1]}]}`, `{"a": "y", "b": 1}`, false},
		{"beside $or inside an object", `{"o": {"a": ["x"], "$or": [{"b": [1]}, {"c": [1]}]}}`, `{"o": {"b": 1}}`, false},
		{"by the field of fewer values", `{"a": ["x", "y"], "b": ["z"], "c": [true, null, 1]}`, `{"a": "x", "c": 1}`, false},
		{"in $or", `{"$or": [{"b": [1]}, {"c": [1]}]}`, `{"b": 2}`, true},
		{"or absent", `{"a": ["x", {"exists": false}]}`, `{"a": "y"}`, true},
		{"or anything", `{"a": ["x", {"exists": true}]}`, `{"b": "y"}`, true},
		{"or a prefix", `{"a": ["x", {"prefix": "p"}]}`, `{"a": "y"}`, true},
		{"or an address", `{"a": ["x", {"cidr": "10.0.0.0/8"}]}`, `{"a": "y"}`, true},
		{"a range", `{"a": [{"numeric": [">=", 5, "<=", 5]}]}`, `{"a": 6}`, true},
		{"anything but", `{"a": [{"anything-but": ["x"]}]}`, `{"a": "x"}`, true},
		{"a name with a dot", `{"a.b": ["x"]}`, `{"a": {"b": "x"}}`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRules(t, tt.filter)
			fit, asked := r.match(t, tt.data)
			if (asked > 0) != tt.asked {
				t.Errorf("%s was asked about %s: %v; want %v", tt.filter, tt.data, asked > 0, tt.asked)
			}
			if want := parse(t, tt.filter).Match(decode(t, tt.data)); (len(fit) == 1) != want {
				t.Errorf("fits: %v; want %v", !want, want)
			}
		})
	}
}

// TestSet_Match_choice holds which of its fields a pattern is found by: how many
// are asked about data that some of them want.
func TestSet_Match_choice(t *testing.T) {
	const n = 400
	var differ, either, lists, several, kinds []string
	for i := range n {
		differ = append(differ, fmt.Sprintf(`{"health": ["unhealthy"], "upstream_id": ["u%d"], "zone": ["eu"]}`, i))
		if i%2 == 0 {
			either = append(either, fmt.Sprintf(`{"health": ["unhealthy"], "upstream_id": ["u%d"]}`, i))
		} else {
			either = append(either, fmt.Sprintf(`{"health": ["h%d"], "upstream_id": ["u0"]}`, i))
		}
		lists = append(lists, fmt.Sprintf(`{"health": ["unhealthy", "healthy"], "upstream_id": ["u%d", "v%d", "w%d"]}`, i, i, i))
		several = append(several, fmt.Sprintf(`{"a": [%d], "b": {"c": ["%d"]}}`, i%10, i/10)) // 100 of each a, 10 of each b.c
		kinds = append(kinds, fmt.Sprintf([]string{
			`{"health": ["unhealthy"], "upstream_id": ["u%d"]}`,
			`{"health": ["unhealthy"], "port": [%d]}`,
			`{"health": ["unhealthy"], "host": [{"suffix": ".test"}], "o": {"id": ["%d"]}}`,
			`{"health": ["healthy"], "port": [{"numeric": [">", %d]}]}`,
		}[i%4], i))
	}
	tests := []struct {
		name string
		docs []string
		data string
		most int // asked
	}{
		{"all ask for one value, and differ in another", differ, `{"health": "unhealthy", "upstream_id": "u7", "zone": "eu"}`, 1},
		{"now this field is rare, now that one", either, `{"health": "unhealthy", "upstream_id": "u0"}`, 1},
		{"several alternatives", lists, `{"health": "unhealthy", "upstream_id": "v7"}`, 1},
		{"the field that says more", several, `{"a": 7, "b": {"c": "7"}}`, 10},
		{"patterns of all kinds", kinds, `{"health": "unhealthy", "upstream_id": "u4", "port": 5, "o": {"id": "6"}}`, 3},
		{"those who differ in nothing that is exact", kinds, `{"health": "healthy", "port": 5}`, n/4 + 1},
	}
	for _, tt := range tests {
		all := newRules(t, tt.docs...)
		grown := newRules(t)
		for i, doc := range tt.docs {
			grown.Put(rule{i, parse(t, doc), doc})
		}
		if fit, asked := all.match(t, tt.data); len(fit) == 0 || asked > tt.most {
			t.Errorf("%s, made at once: %d of %d were asked, %d fit; want at most %d to be asked", tt.name, asked, n, len(fit), tt.most)
		}
		// What was put first knew less of the others.
		if fit, asked := grown.match(t, tt.data); len(fit) == 0 || asked > 2*tt.most {
			t.Errorf("%s, grown: %d of %d were asked, %d fit; want at most %d to be asked", tt.name, asked, n, len(fit), 2*tt.most)
		}
	}
}

// TestSet_golden has all patterns of testdata in one set, asks it about all
// data there, and goes on while they come and go.
func TestSet_golden(t *testing.T) {
	var docs []string
	var data []map[string]any
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range paths {
		_, cases := readGolden(t, path)
		for _, c := range cases {
			if c.refused {
				continue
			}
			docs = append(docs, c.filter)
			for _, d := range c.match {
				data = append(data, decode(t, d))
			}
			for _, r := range c.noMatch {
				data = append(data, decode(t, r.data))
			}
		}
	}
	data = append(data, nil, map[string]any{})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	r := newRules(t, docs...)
	var in, out []rule
	for i, doc := range docs {
		in = append(in, rule{i, parse(t, doc), doc})
	}
	in, out = append(in, rule{n: len(in)}), nil // one without a pattern
	r.Put(in[len(in)-1])
	for range 25 {
		for _, d := range data {
			var want []int
			for _, e := range in {
				if e.pattern.Match(d) {
					want = append(want, e.n)
				}
			}
			var got []int
			for _, e := range r.Match(d) {
				got = append(got, e.n)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%v: %v; want %v", d, got, want)
			}
		}
		for range random.IntN(len(docs)) {
			if random.IntN(2) == 0 && len(in) > 0 {
				i := random.IntN(len(in))
				r.Remove(in[i])
				out = append(out, in[i])
				in = slices.Delete(in, i, i+1)
			} else if len(out) > 0 {
				i := random.IntN(len(out))
				r.Put(out[i])
				at, _ := slices.BinarySearchFunc(in, out[i], byNumber)
				in = slices.Insert(in, at, out[i])
				out = slices.Delete(out, i, i+1)
			}
		}
	}
}

// TestSet_Remove_all holds that what has left is asked no more.
func TestSet_Remove_all(t *testing.T) {
	docs := []string{`{"a": ["x", "y"], "b": [1]}`, `{"a": ["x"]}`, `{"a": ["x", {"prefix": "x"}]}`, `{"o": {"p": [true]}}`}
	r := newRules(t, docs...)
	const data = `{"a": ["x", "y"], "b": [1, 2], "o": [{"p": true}]}`
	if fit, _ := r.match(t, data); !slices.Equal(fit, []int{0, 1, 2, 3}) {
		t.Fatalf("fit: %v; want all", fit)
	}
	for i, doc := range docs {
		r.Remove(rule{i, parse(t, doc), doc})
	}
	if fit, asked := r.match(t, data); len(fit) != 0 || asked != 0 {
		t.Errorf("%v fit, %d were asked; want none", fit, asked)
	}
}

// TestSet_Match_keeps holds that what is put together for one event is not what
// the next one finds.
func TestSet_Match_keeps(t *testing.T) {
	r := newRules(t, `{"a": [3]}`, `{"a": [1]}`, `{"a": [1]}`, `{"a": [1]}`, `{"a": [2]}`, `{"a": [2]}`)
	for range 2 {
		for data, want := range map[string][]int{
			`{"a": 1}`:         {1, 2, 3},
			`{"a": 2}`:         {4, 5},
			`{"a": [1, 3]}`:    {0, 1, 2, 3},
			`{"a": [2, 1]}`:    {1, 2, 3, 4, 5},
			`{"a": [1, 2, 3]}`: {0, 1, 2, 3, 4, 5},
		} {
			if fit, _ := r.match(t, data); !slices.Equal(fit, want) {
				t.Errorf("%s: %v; want %v", data, fit, want)
			}
		}
	}
}

// TestSet_Remove_choice holds that what has left is no longer counted.
func TestSet_Remove_choice(t *testing.T) {
	r := newRules(t)
	of := func(n int, doc string) rule { return rule{n, parse(t, doc), doc} }
	for i := range 10 {
		r.Put(of(i, `{"a": ["common"]}`))
		r.Put(of(100+i, `{"b": ["common"]}`))
	}
	for i := range 10 {
		r.Remove(of(100+i, `{"b": ["common"]}`))
	}
	r.Put(of(200, `{"a": ["common"], "b": ["common"]}`))
	if _, asked := r.match(t, `{"b": "common"}`); asked != 1 {
		t.Errorf("%d were asked; want the one that is found by the value that nobody else asks for any more", asked)
	}
	if _, asked := r.match(t, `{"a": "common"}`); asked != 10 {
		t.Errorf("%d were asked; want 10", asked)
	}
}

// TestSet_Match_inTime would not come to its end, or to the end of memory, if a
// pattern were asked again for each value that it has in an array.
func TestSet_Match_inTime(t *testing.T) {
	const n, values = 1000, 200
	t.Run("one value, many times", func(t *testing.T) {
		r := newRules(t, slices.Repeat([]string{`{"a": [7]}`}, n)...)
		same := `{"a": [` + strings.Repeat("7,", 90_000) + `7]}`
		if fit, asked := r.match(t, same); len(fit) != n || asked != n || r.compared != 0 {
			t.Errorf("%d fit, %d were asked, %d compared; want %d, each once, found at one place", len(fit), asked, r.compared, n)
		}
	})
	t.Run("all alternatives of many", func(t *testing.T) {
		var words []string
		for i := range values {
			words = append(words, fmt.Sprint(i))
		}
		many := `{"a": [` + strings.Join(words, ",") + `]}`
		r, p := newRules(t), parse(t, many)
		for i := range n {
			r.Put(rule{n: i, pattern: p})
		}
		var fit []int
		var asked int
		bytes := allocated(func() { fit, asked = r.match(t, many) })
		if len(fit) != n || asked != n {
			t.Errorf("%d fit, %d were asked; want %d, each once", len(fit), asked, n)
		}
		// To find each once for each of its values, before any is left out, takes 35 MB.
		const most = 2 << 20
		if bytes > most {
			t.Errorf("%d bytes allocated; want at most %d", bytes, most)
		}
	})
	t.Run("a few values of a few", func(t *testing.T) {
		r := newRules(t, `{"a": [2]}`, `{"a": [1]}`)
		if fit, _ := r.match(t, `{"a": [1, 2]}`); !slices.Equal(fit, []int{0, 1}) || r.compared > 2 {
			t.Errorf("%v fit, %d compared; want two, put in order once", fit, r.compared)
		}
	})
}

// allocated returns how many bytes do allocates.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestSet_Remove_leavesNothing holds that a value is forgotten with the last that
// asked for it.
func TestSet_Remove_leavesNothing(t *testing.T) {
	const n, most = 5000, 128 << 10
	r := newRules(t, `{"a": ["stays"]}`)
	live := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := live()
	for i := range n {
		one := rule{n: 1, pattern: parse(t, fmt.Sprintf(`{"a": ["%d"]}`, i))}
		r.Put(one)
		if fit, _ := r.match(t, fmt.Sprintf(`{"a": "%d"}`, i)); !slices.Equal(fit, []int{1}) {
			t.Fatalf("%v fit; want the one that was put", fit)
		}
		r.Remove(one)
	}
	if grew := live() - before; grew > most {
		t.Errorf("%d patterns that came and went leave %d bytes; want less than %d", n, grew, most)
	}
	runtime.KeepAlive(r)
}

func TestSet_zeroPatterns(t *testing.T) {
	r := newRules(t)
	if fit, _ := r.match(t, `{"a": 1}`); fit != nil {
		t.Errorf("an empty set: %v", fit)
	}
	r.Put(rule{n: 2})
	r.Put(rule{n: 1, pattern: parse(t, `{"a": [1]}`)})
	if fit, _ := r.match(t, `{"a": 1}`); !slices.Equal(fit, []int{1, 2}) {
		t.Errorf("fit: %v; want [1 2]: no pattern fits anything", fit)
	}
	if fit, _ := r.match(t, `{}`); !slices.Equal(fit, []int{2}) {
		t.Errorf("fit: %v; want [2]", fit)
	}
}
