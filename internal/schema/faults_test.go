package schema_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/hook"
	"eventhooks/internal/schema"
)

func TestFaults(t *testing.T) {
	var f schema.Faults
	if f.Err() != nil {
		t.Errorf("Err of no faults = %v; want nil", f.Err())
	}
	f.AddFields(hook.FieldErrors{"config.payload.text": "unclosed tag", "config.headers.X.Y": "bad", "@entity": "too much"})
	f.Add("expected a record", "retry")
	f.Add("hidden by the fault above", "retry", "max_age")
	f.Add("second of one field", "retry")
	f.Add("hidden by the fault below", "config")
	const message = "4 schema violations (too much; config.headers.X.Y: bad; config.payload.text: unclosed tag; retry: expected a record)"
	if f.Error() != message {
		t.Errorf("Error() = %s\nwant %s", f.Error(), message)
	}
	const fields = `{"@entity":["too much"],"config":{"headers":{"X.Y":"bad"},"payload":{"text":"unclosed tag"}},"retry":"expected a record"}`
	if got := encode(t, &f); string(got) != fields {
		t.Errorf("JSON = %s\nwant %s", got, fields)
	}
}

func TestFaults_AddFields(t *testing.T) {
	tests := []struct {
		name   string
		errs   hook.FieldErrors
		fields string
	}{
		{
			"a function is an element of an array",
			hook.FieldErrors{"config.functions.2": "b", "config.functions.10": "j"},
			`{"config":{"functions":[null,"b",null,null,null,null,null,null,null,"j"]}}`,
		},
		{"the functions as a whole are a field", hook.FieldErrors{"config.functions": "required field missing"}, `{"config":{"functions":"required field missing"}}`},
		{"what is no place in the array is a name", hook.FieldErrors{"config.functions.0": "x", "config.functions.1000000000": "y"}, `{"config":{"functions":{"0":"x","1000000000":"y"}}}`},
		{"a number is a field's name elsewhere", hook.FieldErrors{"config.payload.2": "b", "5": "x"}, `{"5":"x","config":{"payload":{"2":"b"}}}`},
		{"a header's name keeps its dots", hook.FieldErrors{"config.headers.A.1": "x"}, `{"config":{"headers":{"A.1":"x"}}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var f schema.Faults
			f.AddFields(tt.errs)
			if got := encode(t, &f); string(got) != tt.fields {
				t.Errorf("JSON = %s\nwant %s", got, tt.fields)
			}
			sameMessage(t, &f)
		})
	}
}

// TestFaults_AddFields_besideTheSchema: what compiling finds is told together
// with what reading found.
func TestFaults_AddFields_besideTheSchema(t *testing.T) {
	_, err := schema.NewHook([]byte(`{"source":"a","handler":"lambda","config":{"functions":["return 1",5,"return 2"]}}`), id, nil)
	f := faultsOf(t, err)
	f.AddFields(hook.FieldErrors{"config.functions.1": "no function", "config.functions.2": "what a second check finds of it"})
	const message = "2 schema violations (config.functions.1: no function; config.functions.2: expected a string)"
	if f.Error() != message {
		t.Errorf("Error() = %s\nwant %s", f.Error(), message)
	}
	if got, want := string(encode(t, f)), `{"config":{"functions":["no function","expected a string"]}}`; got != want {
		t.Errorf("JSON = %s; want %s", got, want)
	}
}

func TestFaults_Nest(t *testing.T) {
	inner := func() *schema.Faults {
		var f schema.Faults
		f.AddEntity("too large")
		f.Add("required field missing", "config", "url")
		f.AddFields(hook.FieldErrors{"config.functions.2": "no function"})
		return &f
	}
	const nested = `{"@entity":["too large"],"config":{"functions":[null,"no function"],"url":"required field missing"}}`
	tests := []struct {
		name            string
		outer           func(*schema.Faults)
		message, fields string
	}{
		{
			"the faults of a document lie below its field",
			func(f *schema.Faults) { f.Nest("hook", inner()); f.Add("expected a map", "data") },
			"4 schema violations (data: expected a map; hook: too large; hook.config.functions.2: no function; hook.config.url: required field missing)",
			`{"data":"expected a map","hook":` + nested + `}`,
		},
		{
			"faults that are there already stay beside them",
			func(f *schema.Faults) {
				f.Add("first", "hook", "config", "url")
				f.Add("own", "hook", "source")
				f.Nest("hook", inner())
			},
			"4 schema violations (hook: too large; hook.config.functions.2: no function; hook.config.url: first; hook.source: own)",
			`{"hook":{"@entity":["too large"],"config":{"functions":[null,"no function"],"url":"first"},"source":"own"}}`,
		},
		{
			"a field that is at fault itself has none below it",
			func(f *schema.Faults) { f.Add("expected a record", "hook"); f.Nest("hook", inner()) },
			"schema violation (hook: expected a record)", `{"hook":"expected a record"}`,
		},
		{
			"nesting goes on",
			func(f *schema.Faults) {
				var middle schema.Faults
				middle.Nest("b", inner())
				f.Nest("a", &middle)
			},
			"3 schema violations (a.b: too large; a.b.config.functions.2: no function; a.b.config.url: required field missing)",
			`{"a":{"b":` + nested + `}}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var f schema.Faults
			tt.outer(&f)
			if f.Error() != tt.message {
				t.Errorf("Error() = %s\nwant %s", f.Error(), tt.message)
			}
			if got := encode(t, &f); string(got) != tt.fields {
				t.Errorf("JSON = %s\nwant %s", got, tt.fields)
			}
		})
	}
	t.Run("no faults are nested as none", func(t *testing.T) {
		var f schema.Faults
		f.Nest("hook", nil)
		f.Nest("hook", &schema.Faults{})
		if f.Err() != nil {
			t.Errorf("Err = %v; want nil", f.Err())
		}
	})
	t.Run("what was nested is not changed by what follows", func(t *testing.T) {
		var f schema.Faults
		in := inner()
		f.Nest("hook", in)
		f.Add("later", "hook", "name")
		f.Nest("hook", in) // twice is once, but for the whole's
		if got := encode(t, in); string(got) != nested {
			t.Errorf("JSON of the inner = %s; want %s", got, nested)
		}
	})
}

// faultsOf returns err as the faults that it must be.
func faultsOf(t testing.TB, err error) *schema.Faults {
	t.Helper()
	f, ok := err.(*schema.Faults)
	if !ok {
		t.Fatalf("error = %T %v; want *Faults", err, err)
	}
	return f
}

// sameMessage checks that a message says what `fields` says, in Kong's order.
func sameMessage(t testing.TB, f *schema.Faults) {
	t.Helper()
	var fields any
	if err := json.Unmarshal(encode(t, f), &fields); err != nil {
		t.Fatal(err)
	}
	leaves := leavesOf(fields, "")
	want := fmt.Sprintf("%d schema violations (%s)", len(leaves), strings.Join(leaves, "; "))
	if len(leaves) == 1 {
		want = "schema violation (" + leaves[0] + ")"
	}
	if diff := cmp.Diff(want, f.Error()); diff != "" {
		t.Errorf("message and fields differ (-fields +message):\n%s", diff)
	}
}

func leavesOf(v any, path string) []string {
	var leaves []string
	switch v := v.(type) {
	case string:
		return []string{path + ": " + v}
	case []any:
		for i, e := range v {
			leaves = append(leaves, leavesOf(e, fmt.Sprintf("%s.%d", path, i+1))...)
		}
	case map[string]any:
		if whole, ok := v["@entity"].([]any); ok && path == "" {
			for _, text := range whole {
				leaves = append(leaves, text.(string))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if name != "@entity" || path != "" {
				leaves = append(leaves, leavesOf(v[name], strings.TrimPrefix(path+"."+name, "."))...)
			}
		}
	}
	return leaves
}
