package filter_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"eventhooks/internal/filter"
	"eventhooks/internal/strictjson"
)

// TestDocs plays every example of docs/filters.md.
func TestDocs(t *testing.T) {
	b, err := os.ReadFile("../../docs/filters.md")
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile("`([^`]+)`")
	spans := func(cell string) (out []string) {
		for _, m := range code.FindAllStringSubmatch(cell, -1) {
			out = append(out, m[1])
		}
		return out
	}
	var (
		head   []string // of the table
		block  []string // lines of the JSON that is open
		open   bool
		p      *filter.Pattern // of the last hook
		played = map[string]int{}
		bounds string
	)
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "```json":
			open, block = true, nil
			continue
		case line == "```":
			open = false
			p = filterOf(t, strings.Join(block, "\n"))
			played["hooks"]++
			continue
		case open:
			block = append(block, line)
			continue
		case !strings.HasPrefix(line, "| "):
			head = nil
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), " | ")
		if head == nil {
			head = cells
			continue
		}
		if strings.HasPrefix(line, "| ---") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		name := strings.TrimSpace(head[0])
		if len(head) > 1 {
			name += "/" + strings.TrimSpace(head[1])
		}
		switch name {
		case "Filter/Fits":
			p := parse(t, spans(cells[0])[0])
			for _, data := range spans(cells[1]) {
				played["fits"]++
				if !p.Match(decode(t, data)) {
					t.Errorf("%s: %s does not fit", cells[0], data)
				}
			}
			for _, data := range spans(cells[2]) {
				played["does not fit"]++
				if p.Match(decode(t, data)) {
					t.Errorf("%s: %s fits", cells[0], data)
				}
			}
		case "Filter/The answer says":
			played["refused"]++
			want := strings.Trim(cells[1], "`")
			_, err := filter.Parse([]byte(spans(cells[0])[0]))
			if err == nil || err.Error() != want {
				t.Errorf("%s: %v; the page says %s", cells[0], err, want)
			}
		case "Data/Told":
			played["told"]++
			data := decode(t, spans(cells[0])[0])
			want := strings.Join(spans(cells[1]), "; ")
			if got := strings.Join(p.Explain(data), "; "); got != want {
				t.Errorf("%s: %q; the page says %q", cells[0], got, want)
			}
		case "/EventBridge":
		case "/":
			bounds += line + "\n"
		default:
			t.Errorf("a table that nobody plays: %s", line)
		}
	}
	for what, least := range map[string]int{"hooks": 4, "fits": 50, "does not fit": 50, "refused": 10, "told": 9} {
		if played[what] < least {
			t.Errorf("%d examples were found of %s; want at least %d", played[what], what, least)
		}
	}
	for _, bound := range []int{filter.MaxBytes, filter.MaxDepth, filter.MaxStars, filter.MaxExponent, -filter.MaxExponent} {
		if !strings.Contains(bounds, " "+fmt.Sprint(bound)+" ") && !strings.Contains(bounds, " "+fmt.Sprint(bound)+";") {
			t.Errorf("the page's bounds do not name %d:\n%s", bound, bounds)
		}
	}
}

// filterOf returns the filter of a hook.
func filterOf(t *testing.T, hook string) *filter.Pattern {
	t.Helper()
	members, err := strictjson.Object([]byte(hook), strictjson.Limits{})
	if err != nil {
		t.Fatalf("%s: %v", hook, err)
	}
	for _, m := range members {
		if m.Name == "filter" {
			return parse(t, string(m.Value))
		}
	}
	t.Fatalf("a hook without a filter: %s", hook)
	return nil
}
