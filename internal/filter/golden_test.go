package filter_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/filter"
	"eventhooks/internal/strictjson"
)

var update = flag.Bool("update", false, "rewrite the reasons and faults of testdata")

// golden is one case of testdata.
type golden struct {
	title   string
	filter  string
	match   []string
	noMatch []refusal
	faults  []string // of a filter that is refused
	refused bool
}

type refusal struct {
	data    string
	reasons []string // none: not compared
}

// readGolden reads a file of cases:
//
//	what the file is about
//	=== what the case shows
//	-- filter --
//	a pattern
//	-- match --
//	an event's data in each line
//	-- no match --
//	an event's data in each line, and if you like the reasons below it, indented
//	-- faults --
//	why the pattern is refused
func readGolden(t testing.TB, path string) (comment string, cases []golden) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	section := ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\r\n")
		if title, ok := strings.CutPrefix(line, "=== "); ok {
			cases = append(cases, golden{title: title})
			section = ""
			continue
		}
		if len(cases) == 0 {
			comment += line + "\n"
			continue
		}
		c := &cases[len(cases)-1]
		switch {
		case strings.HasPrefix(line, "-- "):
			section = line
			c.refused = c.refused || section == "-- faults --"
		case line == "":
		case section == "-- filter --":
			c.filter += line + "\n"
		case section == "-- match --":
			c.match = append(c.match, line)
		case section == "-- no match --" && !strings.HasPrefix(line, "  "):
			c.noMatch = append(c.noMatch, refusal{data: line})
		case section == "-- no match --" && len(c.noMatch) > 0:
			last := &c.noMatch[len(c.noMatch)-1]
			last.reasons = append(last.reasons, strings.TrimPrefix(line, "  "))
		case section == "-- faults --":
			c.faults = append(c.faults, line)
		default:
			t.Fatalf("%s, %s: a line that belongs to no section: %s", path, c.title, line)
		}
	}
	return comment, cases
}

func writeGolden(t *testing.T, path, comment string, cases []golden) {
	t.Helper()
	var b strings.Builder
	b.WriteString(comment)
	for _, c := range cases {
		b.WriteString("=== " + c.title + "\n-- filter --\n" + c.filter)
		if len(c.match) > 0 {
			b.WriteString("-- match --\n" + strings.Join(c.match, "\n") + "\n")
		}
		if len(c.noMatch) > 0 {
			b.WriteString("-- no match --\n")
			for _, r := range c.noMatch {
				b.WriteString(r.data + "\n")
				for _, reason := range r.reasons {
					b.WriteString("  " + reason + "\n")
				}
			}
		}
		if c.refused {
			b.WriteString("-- faults --\n" + strings.Join(c.faults, "\n") + "\n")
		}
		b.WriteString("\n")
	}
	if err := os.WriteFile(path, []byte(strings.TrimSuffix(b.String(), "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
}

// decode reads an event's data.
func decode(t testing.TB, data string) map[string]any {
	t.Helper()
	v, err := strictjson.Decode([]byte(data), strictjson.Limits{})
	if err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		t.Fatalf("%s is no object", data)
	}
	return m
}

// faults returns what is wrong with a pattern, a line each.
func faults(t testing.TB, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	var all filter.Errors
	if !errors.As(err, &all) || len(all) == 0 {
		t.Fatalf("the error is %#v; want faults", err)
	}
	var out []string
	for _, f := range all {
		out = append(out, f.String())
	}
	return out
}

// TestGolden runs the cases of testdata; -update rewrites the reasons and the
// faults.
func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range paths {
		comment, cases := readGolden(t, path)
		for i := range cases {
			c := &cases[i]
			t.Run(strings.TrimSuffix(filepath.Base(path), ".txt")+"/"+c.title, func(t *testing.T) {
				p, err := filter.Parse([]byte(c.filter))
				got := faults(t, err)
				if *update && c.refused {
					c.faults = got
				}
				if diff := cmp.Diff(c.faults, got); diff != "" {
					t.Fatalf("faults (-want +got):\n%s", diff)
				}
				if c.refused {
					return
				}
				if len(c.match)+len(c.noMatch) == 0 {
					t.Fatal("the case asks nothing")
				}
				for _, data := range c.match {
					if !p.Match(decode(t, data)) {
						t.Errorf("%s does not match", data)
					}
					if why := p.Explain(decode(t, data)); why != nil {
						t.Errorf("%s: Explain = %q; want nil", data, why)
					}
				}
				for i := range c.noMatch {
					r := &c.noMatch[i]
					if p.Match(decode(t, r.data)) {
						t.Errorf("%s matches", r.data)
					}
					why := p.Explain(decode(t, r.data))
					if len(why) == 0 {
						t.Errorf("%s: Explain gives no reason", r.data)
					}
					if *update {
						r.reasons = why
					}
					if diff := cmp.Diff(r.reasons, why); r.reasons != nil && diff != "" {
						t.Errorf("%s: reasons (-want +got):\n%s", r.data, diff)
					}
				}
			})
		}
		if *update {
			writeGolden(t, path, comment, cases)
		}
	}
}
