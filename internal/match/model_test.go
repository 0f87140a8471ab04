package match_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"eventhooks/internal/filter"
	"eventhooks/internal/hook"
	"eventhooks/internal/match"
	"eventhooks/internal/strictjson"
)

// TestIndex_model holds an index against a walk over all hooks, whatever hooks
// there are, while they come, change and go.
func TestIndex_model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := model{hooks: map[string]hook.Hook{}}
		for range rapid.IntRange(0, 30).Draw(t, "hooks at first") {
			m.put(t)
		}
		t.Repeat(map[string]func(*rapid.T){
			"put":    m.put,
			"edit":   m.edit,
			"remove": m.remove,
			"match":  m.match,
			"":       func(t *rapid.T) { m.match(t) },
		})
	})
}

// model is an index, and what is in it.
type model struct {
	index match.Index
	hooks map[string]hook.Hook
}

var hookIDs = rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("h%02d", rapid.IntRange(0, 40).Draw(t, "id")) })

func (m *model) put(t *rapid.T) {
	h := hook.Hook{ID: hookIDs.Draw(t, "hook")}
	drawBinding(t, &h)
	drawWorkspace(t, &h)
	drawEnabled(t, &h)
	drawFilter(t, &h)
	m.index.Put(h)
	m.hooks[h.ID] = h
}

func (m *model) edit(t *rapid.T) {
	h, ok := m.hooks[hookIDs.Draw(t, "hook")]
	if !ok {
		return
	}
	rapid.SampledFrom([]func(*rapid.T, *hook.Hook){drawBinding, drawWorkspace, drawEnabled, drawFilter}).Draw(t, "what")(t, &h)
	m.index.Put(h)
	m.hooks[h.ID] = h
}

func drawBinding(t *rapid.T, h *hook.Hook) {
	h.Source = rapid.SampledFrom([]string{"s", "s", "s", "other"}).Draw(t, "source")
	h.Event = rapid.SampledFrom([]string{"e", "e", "e", "", "other"}).Draw(t, "event")
}

func drawWorkspace(t *rapid.T, h *hook.Hook) {
	h.Workspace = rapid.SampledFrom([]string{"", "", "w", "v"}).Draw(t, "workspace")
}

func drawEnabled(t *rapid.T, h *hook.Hook) {
	h.Enabled = rapid.IntRange(0, 5).Draw(t, "enabled") > 0
}

func drawFilter(t *rapid.T, h *hook.Hook) {
	switch rapid.IntRange(0, 9).Draw(t, "filter") {
	case 0:
		h.Filter = nil
	case 1:
		h.Filter = []byte(rapid.SampledFrom([]string{`null`, `{}`, `{"a":`, `{"a": [{"regex": "x"}]}`, `{"$not": {"a": [1]}}`}).Draw(t, "unreadable"))
	default:
		h.Filter = encode(t, drawPattern(t, 1))
	}
}

func (m *model) remove(t *rapid.T) {
	id := hookIDs.Draw(t, "hook")
	m.index.Remove(id)
	delete(m.hooks, id)
}

func (m *model) match(t *rapid.T) {
	ev := hook.Event{Source: "s"}
	ev.Event = rapid.SampledFrom([]string{"e", "e", "e", "nobody", ""}).Draw(t, "event")
	ev.Workspace = rapid.SampledFrom([]string{"", "w", "w", "nobody"}).Draw(t, "workspace")
	if rapid.IntRange(0, 19).Draw(t, "readable") == 0 {
		ev.Data = []byte(rapid.SampledFrom([]string{``, `{`, `[]`, `null`, `{"a":1,"a":1}`}).Draw(t, "data"))
	} else {
		ev.Data = encode(t, drawObject(t, 1))
	}
	want, wantDropped := m.walk(ev)
	hooks, dropped := m.index.Match(nil, ev)
	var got []string
	for _, h := range hooks {
		got = append(got, h.ID)
	}
	if !slices.Equal(got, want) || dropped != wantDropped {
		t.Fatalf("event %s of %q, workspace %q: Match = %v, %+v; a walk gives %v, %+v", ev.Data, ev.Event, ev.Workspace, got, dropped, want, wantDropped)
	}
}

// walk asks every hook.
func (m *model) walk(ev hook.Event) (told []string, dropped match.Dropped) {
	v, _ := strictjson.Decode(ev.Data, strictjson.Limits{})
	data, readable := v.(map[string]any)
	hooks := slices.SortedFunc(maps.Values(m.hooks), func(a, b hook.Hook) int { return cmp.Compare(a.ID, b.ID) })
	bindings := []string{ev.Event, ""}
	if ev.Event == "" {
		bindings = bindings[:1]
	}
	for _, event := range bindings {
		for _, h := range hooks {
			if h.Source != ev.Source || h.Event != event {
				continue
			}
			p, err := filter.Parse(h.Filter)
			switch {
			case !h.Enabled:
				dropped.Disabled++
			case h.Workspace != "" && h.Workspace != ev.Workspace:
				dropped.Workspace++
			case readable && err == nil && !p.Match(data):
				dropped.Filter++
			default:
				told = append(told, h.ID)
			}
		}
	}
	return told, dropped
}

func encode(t *rapid.T, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The names and values of patterns and of data: few, so that they meet.
var (
	names  = rapid.SampledFrom([]string{"a", "b", "c", "o", "p"})
	values = rapid.SampledFrom([]any{
		"x", "xy", "X", "", "10.1.2.3", "1", json.Number("1"), json.Number("1.0"), json.Number("10e-1"), json.Number("2"),
		json.Number("-2.5"), json.Number("0"), json.Number("-0.0"), json.Number("1e400"), true, false, nil,
	})
	operators = rapid.SampledFrom([]string{
		`{"prefix": "x"}`, `{"suffix": "y"}`, `{"prefix": {"equals-ignore-case": "X"}}`, `{"equals-ignore-case": "x"}`,
		`{"wildcard": "x*"}`, `{"cidr": "10.0.0.0/8"}`, `{"exists": true}`, `{"exists": false}`, `{"numeric": [">", 0, "<", 2]}`,
		`{"numeric": ["=", 1]}`, `{"numeric": ["<=", 0]}`, `{"anything-but": "x"}`, `{"anything-but": [1, null]}`, `{"anything-but": {"prefix": "x"}}`,
	})
)

func drawPattern(t *rapid.T, depth int) map[string]any {
	out := map[string]any{}
	for range rapid.IntRange(1, 3).Draw(t, "fields") {
		name := names.Draw(t, "name")
		if depth < 3 && rapid.IntRange(0, 3).Draw(t, "object") == 0 {
			out[name] = drawPattern(t, depth+1)
			continue
		}
		var alternatives []any
		for range rapid.SampledFrom([]int{1, 1, 2, 4}).Draw(t, "alternatives") {
			if rapid.IntRange(0, 4).Draw(t, "operator") == 0 {
				alternatives = append(alternatives, json.RawMessage(operators.Draw(t, "alternative")))
			} else {
				alternatives = append(alternatives, values.Draw(t, "alternative"))
			}
		}
		out[name] = alternatives
	}
	if depth < 3 && rapid.IntRange(0, 5).Draw(t, "or") == 0 {
		out["$or"] = []any{drawPattern(t, depth+1), drawPattern(t, depth+1)}
		if rapid.Bool().Draw(t, "nothing but $or") {
			out = map[string]any{"$or": out["$or"]}
		}
	}
	return out
}

func drawObject(t *rapid.T, depth int) map[string]any {
	out := map[string]any{}
	for range rapid.IntRange(0, 6).Draw(t, "members") {
		out[names.Draw(t, "name")] = drawValue(t, depth)
	}
	return out
}

func drawValue(t *rapid.T, depth int) any {
	switch kind := rapid.IntRange(0, 7).Draw(t, "kind"); {
	case depth < 4 && kind == 0:
		return drawObject(t, depth+1)
	case depth < 4 && kind <= 2:
		list := []any{}
		for range rapid.IntRange(0, 4).Draw(t, "elements") {
			list = append(list, drawValue(t, depth+1))
		}
		return list
	}
	return values.Draw(t, "value")
}
