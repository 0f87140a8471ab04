package kongimport

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"eventhooks/internal/hook"
	"eventhooks/internal/schema"
	"eventhooks/internal/strictjson"
)

// object is a JSON object as encoding/json reads it.
type object = map[string]any

// fields names those of a record. Under a name that has none of its own is a
// value, which is taken whole.
type fields map[string]fields

func values(names ...string) fields {
	f := fields{}
	for _, name := range names {
		f[name] = nil
	}
	return f
}

// and returns f with a record among its fields.
func (f fields) and(name string, below fields) fields {
	f[name] = below
	return f
}

// upstreamFields are what is carried over of an upstream: what says how it is
// probed. Everything else balances traffic.
func upstreamFields() fields {
	active := values("type", "timeout", "concurrency", "http_path", "https_verify_certificate", "https_sni", "headers").
		and("healthy", values("interval", "http_statuses", "successes")).
		and("unhealthy", values("interval", "http_statuses", "tcp_failures", "timeouts", "http_failures"))
	return values("name", "host_header", "tags").and("healthchecks", fields{"active": active})
}

func targetFields() fields { return values("target", "weight", "tags") }

// readOnly are what an entity has and nobody sets.
var readOnly = []string{"id", "created_at", "updated_at", "upstream"}

// kongDefaults are Kong's values of what is not carried over, where they are not
// null, false, 0 or empty.
func kongDefaults() object {
	return decode([]byte(`{
		"algorithm": "round-robin", "slots": 10000, "hash_on": "none", "hash_fallback": "none",
		"hash_on_cookie_path": "/", "sticky_sessions_cookie_path": "/",
		"healthchecks": {"passive": {
			"type": "http",
			"healthy": {"http_statuses": [200,201,202,203,204,205,206,207,208,226,300,301,302,303,304,305,306,307,308]},
			"unhealthy": {"http_statuses": [429,500,503]}
		}}
	}`))
}

// entity is an upstream or a target, of Kong's or of ours.
type entity struct {
	id   string // a UUID in lower case; "" when there is none
	name string // of an upstream; host:port of a target
	row  object
	sent object // of Kong's: what is carried over
	want object // of Kong's: the same as it would be shown here
}

func readEntity(raw []byte, name string) entity {
	row := decode(raw)
	e := entity{row: row, name: text(row, name)}
	e.id, _ = schema.UUID(text(row, "id"))
	return e
}

// entities reads the rows of a list, each once: what changed while it was read
// may be on two pages.
func entities(rows []json.RawMessage, name string) []entity {
	var list []entity
	seen := map[string]bool{}
	for _, raw := range rows {
		e := readEntity(raw, name)
		if e.id != "" && seen[e.id] {
			continue
		}
		seen[e.id] = true
		list = append(list, e)
	}
	return list
}

// carry splits a row of Kong's into what is carried over and the names of what
// is left out though it says something.
func carry(row object, wanted fields, defaults object, prefix string) (sent object, leftOut []string) {
	sent = object{}
	for _, name := range slices.Sorted(maps.Keys(row)) {
		below, carried := wanted[name]
		inner, isRecord := row[name].(object)
		switch {
		case carried && below != nil && isRecord:
			var out []string
			sent[name], out = carry(inner, below, record(defaults, name), prefix+name+".")
			leftOut = append(leftOut, out...)
		case carried && below != nil && row[name] == nil: // nothing is said
		case carried:
			sent[name] = row[name]
		case prefix == "" && slices.Contains(readOnly, name):
		case says(row[name], defaults[name]):
			leftOut = append(leftOut, prefix+name)
		}
	}
	return sent, leftOut
}

// says reports whether a value says more than its default, which is nil where
// it is an empty one.
func says(v, def any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case object:
		d, _ := def.(object)
		for name, inner := range v {
			if says(inner, d[name]) {
				return true
			}
		}
		return false
	case []any:
		d, _ := def.([]any)
		return len(v)+len(d) > 0 && !reflect.DeepEqual(v, d)
	default:
		if def != nil {
			return v != def
		}
		return !reflect.ValueOf(v).IsZero()
	}
}

// checks is what an upstream of Kong's says of its active health checks.
type checks struct {
	off   bool // both intervals are 0
	blind bool // no failure has a consequence
	grpc  bool
}

// offByZero are the fields of active health checks whose zeros are Kong's default
// and switch everything off.
var offByZero = map[string][]string{
	"healthy":   {"interval", "successes"},
	"unhealthy": {"interval", "tcp_failures", "timeouts", "http_failures"},
}

func readChecks(sent object) checks {
	active := record(record(sent, "healthchecks"), "active")
	healthy, unhealthy := record(active, "healthy"), record(active, "unhealthy")
	blind := true
	for _, name := range offByZero["unhealthy"][1:] {
		blind = blind && zero(unhealthy[name])
	}
	return checks{
		off:   zero(healthy["interval"]) && zero(unhealthy["interval"]),
		blind: blind,
		grpc:  strings.HasPrefix(text(active, "type"), "grpc"),
	}
}

// dropZeros takes out the zeros that say nothing but "off".
func dropZeros(sent object) {
	active := record(record(sent, "healthchecks"), "active")
	for name, list := range offByZero {
		maps.DeleteFunc(record(active, name), func(field string, v any) bool {
			return slices.Contains(list, field) && zero(v)
		})
	}
}

// overlay returns an entity as it is here with what Kong says laid over it; what
// only we know stays.
func overlay(here, sent object) object {
	o := maps.Clone(here)
	for name, v := range sent {
		below, isRecord := v.(object)
		old, wasRecord := o[name].(object)
		if isRecord && wasRecord && name != "headers" { // headers are replaced whole, as in Kong
			v = overlay(old, below)
		}
		o[name] = v
	}
	return o
}

// differences returns the names of what was sent that is not so here. want is
// what was sent as it would be shown, with secrets hidden.
func differences(sent, want, here object, wanted fields, prefix string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(sent)) {
		if below := wanted[name]; below != nil {
			out = append(out, differences(record(sent, name), record(want, name), record(here, name), below, prefix+name+".")...)
		} else if !reflect.DeepEqual(want[name], here[name]) {
			out = append(out, prefix+name)
		}
	}
	return out
}

// hiddenHeaders returns the names of probe headers whose values nobody reads
// back, so that they cannot be compared.
func hiddenHeaders(sent object) []string {
	headers := record(record(record(sent, "healthchecks"), "active"), "headers")
	return slices.DeleteFunc(slices.Sorted(maps.Keys(headers)), func(name string) bool { return !hook.SecretHeader(name) })
}

// asShown returns an upstream or a target as the API would show it, or a
// *schema.Faults.
func asShown(sent object, id string, isTarget bool) (object, error) {
	doc, err := json.Marshal(sent)
	if err != nil {
		return nil, err
	}
	var shown any
	if isTarget {
		t, err := schema.NewTarget(doc, id, "")
		if err != nil {
			return nil, err
		}
		shown = schema.ShowTarget(t)
	} else {
		u, err := schema.NewUpstream(doc, id, "", nil)
		if err != nil {
			return nil, err
		}
		shown = schema.ShowUpstream(u)
	}
	doc, err = strictjson.Encode(shown)
	return decode(doc), err
}

// decode returns a JSON object, nil when it is none.
func decode(raw []byte) object {
	var o object
	_ = json.Unmarshal(raw, &o) // nil has no id, which is told
	return o
}

func record(o object, name string) object {
	below, _ := o[name].(object)
	return below
}

func text(o object, name string) string {
	s, _ := o[name].(string)
	return s
}

// zero reports whether a number is 0 or not there.
func zero(v any) bool { return v == nil || v == 0.0 }
