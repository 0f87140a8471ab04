package strictjson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/strictjson"
)

// tiny limits make faults of depth and number short to write.
var tiny = strictjson.Limits{Depth: 2, Values: 4}

func TestCheck(t *testing.T) {
	for _, doc := range []string{
		`{}`, `[]`, `""`, `0`, `-0`, `1e400`, `12345678901234567890.000`, `true`, `false`, `null`,
		" \t\r\n{ \"a\" : [ 1 , 2 ] } \n",
		`{"a":1,"A":2,"":3}`,
		`{"a":{"a":{"a":1}}}`,
		`"\ud83d\ude00 \u0000 \uffff"`,
		"\"😀 \uffff\"",
		`{"a\u0062":1,"a":2}`,
	} {
		t.Run(doc+" is good", func(t *testing.T) {
			if err := strictjson.Check([]byte(doc), strictjson.Limits{}); err != nil {
				t.Errorf("Check = %v; want nil", err)
			}
		})
	}
}

func TestCheck_refuses(t *testing.T) {
	tests := []struct {
		name, doc string
		limits    strictjson.Limits
		pointer   string
		words     string // of ours; "" where the words are the library's
	}{
		{"nothing", ``, tiny, "", "empty"},
		{"blanks", " \n\t", tiny, "", "empty"},
		{"what ends in the middle", `{"a":[1`, tiny, "/a", "ends in the middle"},
		{"a name without value", `{"a"}`, tiny, "/a", ""},
		{"a comma too many", `[1,]`, tiny, "", ""},
		{"a second value", `{} {}`, tiny, "", "follows the end"},
		{"a comma after the value", `1,`, tiny, "", "follows the end"},
		{"rubbish after the value", `{"a":1}x`, tiny, "", "follows the end"},
		{"a name that appears twice", `{"a":1,"b":{"c":1,"c":2}}`, tiny, "/b/c", "appears twice"},
		{"a name that appears twice, once escaped", `{"a":1,"\u0061":2}`, tiny, "/a", "appears twice"},
		{"a name that appears twice in an array's object", `[0,{"x/y":1,"x/y":2}]`, tiny, "/1/x~1y", "appears twice"},
		{"text that is not UTF-8", "{\"a\":\"\xff\"}", tiny, "/a", "not UTF-8"},
		{"a name that is not UTF-8", "{\"\xc0\x80\":1}", tiny, "", "not UTF-8"},
		{"a surrogate in UTF-8", "\"\xed\xa0\x80\"", tiny, "", "not UTF-8"},
		{"half a pair of surrogates", `["\ud800"]`, tiny, "/0", ""},
		{"halves in the wrong order", `["\ude00\ud83d"]`, tiny, "/0", ""},
		{"a control character in a string", "[\"a\nb\"]", tiny, "/0", ""},
		{"a comment", `/* */ 1`, tiny, "", ""},
		{"single quotes", `{'a':1}`, tiny, "", ""},
		{"NaN", `[NaN]`, tiny, "/0", ""},
		{"a number with a leading zero", `[01]`, tiny, "", ""},
		{"a number with a plus", `[+1]`, tiny, "/0", ""},
		{"a byte order mark", "\ufeff{}", tiny, "", ""},
		{"a third level", `{"a":[{}]}`, tiny, "/a/0", "more than 2 objects and arrays inside each other"},
		{"a fifth value", `[1,2,3,{"a":4}]`, tiny, "/3", "more than 4 values"},
		{"a fifth value in an object", `{"a":1,"b":{"c":3,"d":4}}`, tiny, "/b/d", "more than 4 values"},
		{"65 levels", strings.Repeat("[", 65) + strings.Repeat("]", 65), strictjson.Limits{}, strings.Repeat("/0", 64), "more than 64 objects"},
		{"a million levels, unfinished", strings.Repeat("[", 1_000_000), strictjson.Limits{}, strings.Repeat("/0", 64), "more than 64 objects"},
		{"more than 100,000 values", "[0" + strings.Repeat(",0", 100_000) + "]", strictjson.Limits{}, "/99999", "more than 100000 values"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			readers := map[string]func() error{
				"Check":  func() error { return strictjson.Check([]byte(tt.doc), tt.limits) },
				"Decode": func() error { _, err := strictjson.Decode([]byte(tt.doc), tt.limits); return err },
				"Object": func() error { _, err := strictjson.Object([]byte(tt.doc), tt.limits); return err },
				"Array":  func() error { _, err := strictjson.Array([]byte(tt.doc), tt.limits); return err },
			}
			for name, read := range readers {
				err := read()
				var e *strictjson.Error
				if !errors.As(err, &e) {
					t.Errorf("%s = %v; want an *Error", name, err)
					continue
				}
				if e.Pointer != tt.pointer || !strings.Contains(e.Reason, tt.words) || e.Reason == "" {
					t.Errorf("%s = %q, %q; want %q and %q in the reason", name, e.Pointer, e.Reason, tt.pointer, tt.words)
				}
			}
		})
	}
}

func TestCheck_atItsLimits(t *testing.T) {
	for name, doc := range map[string]string{
		"two levels":         `{"a":[ ]}`,
		"four values":        `{"a":1,"b":[ 2 ]}`,
		"brackets in text":   `["[[[[{{{{,,,,,,,","\"[[[,,,"]`,
		"backslashes":        `["\\","\\\\\"[[[,,,,","x"]`,
		"64 levels":          strings.Repeat("[", 64) + strings.Repeat("]", 64),
		"exactly the values": "[0" + strings.Repeat(",0", 99_998) + "]",
	} {
		t.Run(name+" pass", func(t *testing.T) {
			l := tiny
			if len(doc) > 100 {
				l = strictjson.Limits{}
			}
			if err := strictjson.Check([]byte(doc), l); err != nil {
				t.Errorf("Check = %v; want nil", err)
			}
			if !strictjson.Within([]byte(doc), l) {
				t.Error("Within = false; want true")
			}
		})
	}
}

func TestDecode(t *testing.T) {
	got, err := strictjson.Decode([]byte(` {"n":12345678901234567890.10e5, "s":"a\u00e9\n", "l":[true,false,null,[],{}], "a\"b":"\ud83d\ude00"}`), strictjson.Limits{})
	want := map[string]any{
		"n": json.Number("12345678901234567890.10e5"), "s": "aé\n",
		"l": []any{true, false, nil, []any{}, map[string]any{}}, "a\"b": "😀",
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Decode: %v, -want +got\n%s", err, diff)
	}
}

func TestObject(t *testing.T) {
	data := []byte(`{ "a" : [1, 2] , "b\n":"x", "c" :{"d":1.0} }`)
	got, err := strictjson.Object(data, strictjson.Limits{})
	want := []strictjson.Member{{"a", []byte(`[1, 2]`)}, {"b\n", []byte(`"x"`)}, {"c", []byte(`{"d":1.0}`)}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Object: %v, -want +got\n%s", err, diff)
	}
	if got, err := strictjson.Object([]byte(`{}`), strictjson.Limits{}); err != nil || len(got) != 0 {
		t.Errorf("Object of {} = %v, %v; want no members", got, err)
	}
	for _, doc := range []string{`[1]`, `"a"`, `null`, `1`} {
		if _, err := strictjson.Object([]byte(doc), strictjson.Limits{}); err == nil || !strings.Contains(err.Error(), "expected an object") {
			t.Errorf("Object of %s = %v; want that an object was expected", doc, err)
		}
	}
}

func TestArray(t *testing.T) {
	got, err := strictjson.Array([]byte(`[ 1 , {"a": 2},"x" ]`), strictjson.Limits{})
	want := [][]byte{[]byte(`1`), []byte(`{"a": 2}`), []byte(`"x"`)}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Array: %v, -want +got\n%s", err, diff)
	}
	if _, err := strictjson.Array([]byte(`{}`), strictjson.Limits{}); err == nil || !strings.Contains(err.Error(), "expected an array") {
		t.Errorf("Array of {} = %v; want that an array was expected", err)
	}
}

func TestKind(t *testing.T) {
	for raw, want := range map[string]byte{
		"{": '{', " \n[1]": '[', `"a"`: '"', "-1": '0', "0": '0', "9.5": '0', "true": 't', "false": 'f', "null": 'n',
		"": 0, "  ": 0, "x": 0, "+1": 0, ".5": 0,
	} {
		if got := strictjson.Kind([]byte(raw)); got != want {
			t.Errorf("Kind(%q) = %q; want %q", raw, got, want)
		}
	}
}

func TestString(t *testing.T) {
	for raw, want := range map[string]string{`"a"`: "a", ` "a\"b\u00e9" `: "a\"bé", `""`: ""} {
		if got, ok := strictjson.String([]byte(raw)); !ok || got != want {
			t.Errorf("String(%s) = %q, %v; want %q", raw, got, ok, want)
		}
	}
	for _, raw := range []string{``, `1`, `null`, `"`} {
		if got, ok := strictjson.String([]byte(raw)); ok {
			t.Errorf("String(%s) = %q, true; want false", raw, got)
		}
	}
}

func TestCompact(t *testing.T) {
	const in = " { \"a b\" :\t[ 1.0 ,\r\n \"c  \\\" d\" , true ] , \"e\":{ } } \n"
	const want = `{"a b":[1.0,"c  \" d",true],"e":{}}`
	if got := string(strictjson.Compact([]byte("x"), []byte(in))); got != "x"+want {
		t.Errorf("Compact = %s; want x%s", got, want)
	}
}

func TestEncode(t *testing.T) {
	got, err := strictjson.Encode(map[string]any{"a": "<b> & c", "n": json.Number("1.0")})
	if want := `{"a":"<b> & c","n":1.0}`; err != nil || string(got) != want {
		t.Errorf("Encode = %s, %v; want %s", got, err, want)
	}
	if _, err := strictjson.Encode(func() {}); err == nil {
		t.Error("Encode of a function succeeded")
	}
}

func TestReader(t *testing.T) {
	type thing struct {
		N     int64
		S     string
		Raw   string
		List  []string
		Names []string
	}
	read := func(doc string) (thing, error) {
		var got thing
		r := strictjson.Open([]byte(doc))
		r.Object(func(name []byte) {
			got.Names = append(got.Names, string(r.QuotedName()))
			switch string(name) {
			case "n":
				got.N = r.Int()
			case "s":
				got.S = r.String()
			case "raw":
				got.Raw = string(r.Raw())
			case "list":
				r.Array(func() { got.List = append(got.List, r.String()) })
			}
		})
		return got, r.Close()
	}

	t.Run("a document of its shape is read", func(t *testing.T) {
		got, err := read(` {"n": -7, "s":"a\"b", "raw" : [1, 2] , "list":["x","y"], "other":{"n":[]}, "\u006e2":1} `)
		want := thing{-7, `a"b`, `[1, 2]`, []string{"x", "y"}, []string{`"n"`, `"s"`, `"raw"`, `"list"`, `"other"`, `"\u006e2"`}}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("read: %v, -want +got\n%s", err, diff)
		}
	})

	for doc, want := range map[string]string{
		`{"n":"1"}`:                    "/n: expected an integer, got a string",
		`{"n":1.5}`:                    "/n: expected an integer of 64 bits",
		`{"n":9223372036854775808}`:    "/n: expected an integer of 64 bits",
		`{"s":null}`:                   "/s: expected a string, got null",
		`{"list":{"a":1}}`:             "/list: expected an array, got an object",
		`{"list":["a",[]]}`:            "/list/1: expected a string, got an array",
		`[1]`:                          "expected an object, got an array",
		`{"other":{"a":1,"a":1}}`:      "/other/a: this name appears twice in its object",
		`{"n":1,"s":"x","n":2}`:        "/n: this name appears twice in its object",
		`{"n":1}1`:                     "something follows the end of the JSON value",
		`{"s":"a","n":`:                "/n: the document ends in the middle (byte 13)",
		``:                             "empty, expected a JSON value",
		"{\"s\":\"\xff\"}":             "/s: not UTF-8 (byte 6)",
		`{"raw":[1,{"a":"\n","a":2}]}`: "/raw/1/a: this name appears twice in its object",
	} {
		t.Run("refuses "+doc, func(t *testing.T) {
			_, err := read(doc)
			var e *strictjson.Error
			if !errors.As(err, &e) || err.Error() != want {
				t.Errorf("read = %v; want %s", err, want)
			}
		})
	}

	t.Run("what was not read to its end is a fault", func(t *testing.T) {
		r := strictjson.Open([]byte(`{"a":1}`))
		if err := r.Close(); err == nil {
			t.Error("Close = nil; want an error")
		}
	})

	t.Run("the first fault stays", func(t *testing.T) {
		r := strictjson.Open([]byte(`[1,2,3]`))
		calls := 0
		r.Array(func() { calls++; r.Int(); r.Fail("no") })
		if err := r.Close(); err == nil || err.Error() != "/0: no" || calls != 1 {
			t.Errorf("Close = %v after %d calls; want /0: no after 1", err, calls)
		}
	})

	t.Run("Since returns what was read", func(t *testing.T) {
		r := strictjson.Open([]byte(`[ {"a":1} , {"b": [2]} ]`))
		var got []string
		r.Array(func() {
			at := r.Offset()
			r.Object(func([]byte) {})
			got = append(got, string(r.Since(at)))
		})
		if diff := cmp.Diff([]string{`{"a":1}`, `{"b": [2]}`}, got); r.Close() != nil || diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}

// A document is not held on to, nor changed.
func TestObject_leavesTheDocumentAlone(t *testing.T) {
	data := []byte(`{"a":"\u0061","b":[1, 2]}`)
	before := bytes.Clone(data)
	for range 3 {
		if _, err := strictjson.Object(data, strictjson.Limits{}); err != nil {
			t.Fatal(err)
		}
		if _, err := strictjson.Decode(data, strictjson.Limits{}); err != nil {
			t.Fatal(err)
		}
		_ = strictjson.Check([]byte(`{"x`), strictjson.Limits{})
	}
	if !bytes.Equal(before, data) {
		t.Errorf("document = %s; want %s", data, before)
	}
}
