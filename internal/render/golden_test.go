package render

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"eventhooks/internal/hook"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the wants of testdata")

// section is one file of a case: `-- name --`, then its lines.
type section struct{ name, text string }

func readCase(t *testing.T, path string) (comment string, sections []section) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		name, ok := strings.CutPrefix(line, "-- ")
		if name, end := strings.CutSuffix(strings.TrimRight(name, "\r\n"), " --"); ok && end {
			sections = append(sections, section{name: name})
			continue
		}
		if len(sections) == 0 {
			comment += line
			continue
		}
		sections[len(sections)-1].text += line
	}
	for i := range sections {
		sections[i].text = strings.TrimSuffix(sections[i].text, "\n")
	}
	return comment, sections
}

func writeCase(t *testing.T, path, comment string, sections []section) {
	t.Helper()
	var b strings.Builder
	b.WriteString(comment)
	for _, s := range sections {
		b.WriteString("-- " + s.name + " --\n" + s.text + "\n")
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func get(sections []section, name string) (string, bool) {
	for _, s := range sections {
		if s.name == name {
			return s.text, true
		}
	}
	return "", false
}

// TestGolden runs the cases of testdata. A case is a file of sections:
//
//	text, json or payload (payload-plain: payload_format false)   the template
//	values.json    an event's data; source balancer, event health
//	want           what it renders to; for a payload: as JSON
//	want-form      a payload as a form
//	error          why it does not parse
//	render-error   why it does not render
//	names          the top-level names it uses
//	script         the Lua that it compiles to; then nothing is rendered
//
// -update rewrites every section but the template and the values; add an empty
// section to have it filled in.
func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			comment, sections := readCase(t, path)
			got := runCase(t, sections)
			for i, s := range sections {
				out, ok := got[s.name]
				if !ok {
					continue
				}
				if *update {
					sections[i].text = out
				} else if diff := cmp.Diff(s.text, out); diff != "" {
					t.Errorf("%s (-want +got):\n%s", s.name, diff)
				}
			}
			// What the case does not ask for must not happen.
			for _, name := range []string{"error", "render-error", "script"} {
				if _, asked := get(sections, name); !asked && got[name] != "" {
					t.Errorf("%s: %s", name, got[name])
				}
			}
			if *update {
				writeCase(t, path, comment, sections)
			}
		})
	}
}

func runCase(t *testing.T, sections []section) map[string]string {
	t.Helper()
	got := map[string]string{"error": "", "render-error": "", "names": "", "script": ""}
	data, ok := get(sections, "values.json")
	if !ok {
		data = "{}"
	}
	v, err := ValuesOf(hook.Event{Source: "balancer", Event: "health", Data: []byte(data)})
	if err != nil {
		t.Fatalf("values.json: %v", err)
	}
	render := func(want string, f func([]byte, Values) ([]byte, error)) {
		b, err := f([]byte("before "), v)
		text, ok := strings.CutPrefix(string(b), "before ")
		if !ok {
			t.Errorf("Append lost what was there before: %q", b)
		}
		if err != nil {
			got["render-error"] = err.Error()
			if text != "" {
				t.Errorf("Append with an error appended %q", text)
			}
		}
		got[want] = text
	}
	if src, ok := get(sections, "text"); ok {
		if tmpl, err := ParseText(src); err != nil {
			got["error"] = err.Error()
		} else if tmpl.Script() != nil {
			got["script"] = strings.TrimSuffix(tmpl.Script().Source, "\n")
		} else {
			got["names"] = strings.Join(tmpl.Names(), " ")
			render("want", tmpl.Append)
		}
	}
	if src, ok := get(sections, "json"); ok {
		if tmpl, err := ParseJSON(src); err != nil {
			got["error"] = err.Error()
		} else if tmpl.Script() != nil {
			got["script"] = strings.TrimSuffix(tmpl.Script().Source, "\n")
		} else {
			got["names"] = strings.Join(tmpl.Names(), " ")
			render("want", tmpl.Append)
		}
	}
	for name, format := range map[string]bool{"payload": true, "payload-plain": false} {
		src, ok := get(sections, name)
		if !ok {
			continue
		}
		p, err := ParsePayload([]byte(src), format)
		if err != nil {
			var all Errors
			if !errors.As(err, &all) {
				t.Errorf("ParsePayload: %T, want Errors", err)
			}
			lines := make([]string, len(all))
			for i, e := range all {
				lines[i] = e.Error()
			}
			slices.Sort(lines)
			got["error"] = strings.Join(lines, "\n")
			continue
		}
		got["names"] = strings.Join(p.Names(), " ")
		render("want", p.AppendJSON)
		if got["render-error"] == "" && !json.Valid([]byte(got["want"])) {
			t.Errorf("AppendJSON gave what is not JSON: %s", got["want"])
		}
		if _, ok := get(sections, "want-form"); ok {
			render("want-form", p.AppendForm)
		}
	}
	return got
}
