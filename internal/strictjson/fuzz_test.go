package strictjson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/strictjson"
)

func seed(f *testing.F) {
	for _, doc := range []string{
		``, `{}`, `[]`, `null`, `{"a":1,"a":2}`, `{"a":[1,2.0,-3e+5,{"b":"\u00e9\ud83d\ude00"}]}`, `["\ud800"]`, "\"\xff\"",
		`{"a":`, `[1,]`, ` { "a" : "b c" } `, `{"\u0061":1,"a":2}`, `[[[[[[]]]]]]`, `1 2`, "[\"\x00\"]", `"\\"`, `"\\\""`, "\"\uffff\"",
	} {
		f.Add([]byte(doc))
	}
	f.Add(document)
}

// FuzzCheck holds what is accepted against the standard library, which accepts
// more: what it refuses is refused, and what it accepts is refused for one of
// the reasons that this package exists for.
func FuzzCheck(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		err := strictjson.Check(data, strictjson.Limits{})
		var e *strictjson.Error
		if err != nil && (!errors.As(err, &e) || e.Reason == "" || !utf8.ValidString(e.Pointer)) {
			t.Fatalf("Check(%q) = %v; want an *Error with a reason", data, err)
		}
		lenient := json.Valid(data)
		switch {
		case err == nil && !lenient:
			t.Fatalf("Check(%q) = nil; the standard library refuses it", data)
		case err == nil && (!utf8.Valid(data) || duplicates(data) || halfPairs(data)):
			t.Fatalf("Check(%q) = nil; want an error", data)
		case err != nil && lenient && utf8.Valid(data) && !duplicates(data) && !halfPairs(data) && strictjson.Within(data, strictjson.Limits{}):
			t.Fatalf("Check(%q) = %v; want nil", data, err)
		}

		got, derr := strictjson.Decode(data, strictjson.Limits{})
		if (derr == nil) != (err == nil) {
			t.Fatalf("Decode(%q) = %v; Check = %v", data, derr, err)
		}
		members, oerr := strictjson.Object(data, strictjson.Limits{})
		elements, aerr := strictjson.Array(data, strictjson.Limits{})
		kind := strictjson.Kind(data)
		if (oerr == nil) != (err == nil && kind == '{') || (aerr == nil) != (err == nil && kind == '[') {
			t.Fatalf("Object(%q) = %v, Array = %v, Check = %v", data, oerr, aerr, err)
		}
		if err != nil {
			return
		}
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		var want any
		if err := d.Decode(&want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("Decode(%q): -standard library +got\n%s", data, diff)
		}
		// The parts, put together again, are the whole.
		switch kind {
		case '{':
			m := want.(map[string]any)
			if len(members) != len(m) {
				t.Fatalf("Object(%q) has %d members; want %d", data, len(members), len(m))
			}
			for _, member := range members {
				v, err := strictjson.Decode(member.Value, strictjson.Limits{})
				if diff := cmp.Diff(m[member.Name], v); err != nil || diff != "" {
					t.Fatalf("Object(%q), %s: %v\n%s", data, member.Name, err, diff)
				}
			}
		case '[':
			whole := append(append([]byte("["), bytes.Join(elements, []byte(","))...), ']')
			if got, want := strictjson.Compact(nil, whole), strictjson.Compact(nil, data); !bytes.Equal(got, want) {
				t.Fatalf("Array(%q) is %s; want %s", data, got, want)
			}
		}
	})
}

func FuzzCompact(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		once := strictjson.Compact(nil, data)
		if twice := strictjson.Compact(nil, once); json.Valid(data) && !bytes.Equal(once, twice) {
			t.Fatalf("Compact(%q) = %q, and of that %q", data, once, twice)
		}
		if !json.Valid(data) {
			return
		}
		var want bytes.Buffer
		if err := json.Compact(&want, data); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(once, want.Bytes()) {
			t.Fatalf("Compact(%q) = %q; want %q", data, once, want.Bytes())
		}
	})
}

// FuzzReader reads whatever comes as whatever it asks for.
func FuzzReader(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		r := strictjson.Open(data)
		var read func(depth int) any
		read = func(depth int) any {
			switch k := r.Kind(); {
			case k == '{' && depth < 100:
				m := map[string]any{}
				r.Object(func(name []byte) {
					n := string(name)
					m[n] = read(depth + 1)
				})
				return m
			case k == '[' && depth < 100:
				a := []any{}
				r.Array(func() { a = append(a, read(depth+1)) })
				return a
			case k == '"':
				return r.String()
			}
			v, _ := strictjson.Decode(r.Raw(), strictjson.Limits{Depth: 10_000})
			return v
		}
		got := read(0)
		err := r.Close()
		want, werr := strictjson.Decode(data, strictjson.Limits{Depth: 10_000, Values: len(data) + 1})
		if (err == nil) != (werr == nil) {
			t.Fatalf("Close = %v; Decode(%q) = %v", err, data, werr)
		}
		if diff := cmp.Diff(want, got); err == nil && diff != "" {
			t.Fatalf("%q: -want +got\n%s", data, diff)
		}
	})
}

// duplicates reports whether an object of a valid document has a name twice.
func duplicates(data []byte) bool {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var walk func() (dup bool, err error)
	walk = func() (bool, error) {
		tok, err := d.Token()
		if err != nil {
			return false, err
		}
		switch tok {
		case json.Delim('{'):
			names := map[string]bool{}
			dup := false
			for d.More() {
				name, err := d.Token()
				if err != nil {
					return false, err
				}
				if names[name.(string)] {
					dup = true
				}
				names[name.(string)] = true
				inner, err := walk()
				if err != nil {
					return false, err
				}
				dup = dup || inner
			}
			_, err := d.Token()
			return dup, err
		case json.Delim('['):
			dup := false
			for d.More() {
				inner, err := walk()
				if err != nil {
					return false, err
				}
				dup = dup || inner
			}
			_, err := d.Token()
			return dup, err
		}
		return false, nil
	}
	dup, err := walk()
	return dup || err != nil && !errors.Is(err, io.EOF)
}

// halfPairs reports whether an escape in a valid document is half a pair of
// surrogates.
func halfPairs(data []byte) bool {
	unit := func(i int) rune { // of the escape at i, 0 if none is there
		if i+6 > len(data) || data[i] != '\\' || data[i+1] != 'u' {
			return 0
		}
		var n rune
		for _, c := range bytes.ToLower(data[i+2 : i+6]) {
			n = n<<4 + rune(bytes.IndexByte([]byte("0123456789abcdef"), c))
		}
		return n
	}
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		u := unit(i)
		switch {
		case u >= 0xD800 && u <= 0xDBFF:
			if next := unit(i + 6); next < 0xDC00 || next > 0xDFFF {
				return true
			}
			i += 11
		case u >= 0xDC00 && u <= 0xDFFF:
			return true
		default:
			i++
		}
	}
	return false
}
