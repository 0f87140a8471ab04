package match

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"eventhooks/internal/hook"
	"eventhooks/internal/strictjson"
)

// Keys are what on_change and snooze know an event by.
type Keys struct {
	Slot   string // where on_change compares
	Snooze string // what snooze takes for the same event
	Sig    string // signature of all data: what on_change compares
}

// KeysOf returns the keys of an event for a hook; s is the catalogue's entry
// of the event's source and event, or its zero value.
//
// A key carries the hook's Gen, so that a hook made anew under an old id begins
// anew, and the event's source and event, because a hook may be bound to all
// events of a source. Kong publishes `unique` and says that on_change looks at
// key parts of a payload; how the keys are made is ours.
func KeysOf(h hook.Hook, s hook.Source, ev hook.Event) (Keys, error) {
	v, err := strictjson.Decode(ev.Data, strictjson.Limits{})
	if err != nil {
		return Keys{}, err
	}
	data, ok := v.(map[string]any)
	if !ok {
		return Keys{}, &strictjson.Error{Reason: "an object was expected"}
	}
	all := signature(data, nil)
	k := Keys{Sig: all, Snooze: all}
	if len(s.Unique) > 0 {
		k.Snooze = signature(data, s.Unique)
	}
	switch {
	case len(s.Slot) > 0:
		k.Slot = signature(data, s.Slot)
	case len(s.Unique) > 0:
		k.Slot = k.Snooze
	default:
		k.Slot = "all"
	}
	prefix := KeyPrefix(h) + ev.Source + "/" + ev.Event + "#"
	k.Slot, k.Snooze = prefix+k.Slot, prefix+k.Snooze
	return k, nil
}

// KeyPrefix returns what the keys of a hook begin with, as it is now: those of
// one that had its id before begin otherwise.
func KeyPrefix(h hook.Hook) string { return strconv.FormatInt(h.Gen, 10) + "#" }

// KeyEvent returns the source and event that a slot's or a window's key is of;
// "" for what is no such key.
func KeyEvent(key string) (source, event string) {
	_, rest, _ := strings.Cut(key, "#")
	if i := strings.LastIndexByte(rest, '#'); i >= 0 {
		source, event, _ = strings.Cut(rest[:i], "/")
	}
	return source, event
}

// signature is the SHA-256, cut to 128 bits, of the canonical JSON of some
// fields, or of all when none are named. A field that is absent differs from
// one that is null.
func signature(data map[string]any, fields []string) string {
	var b bytes.Buffer
	if fields == nil {
		canonical(&b, data)
	} else {
		for _, f := range fields {
			v, ok := data[f]
			b.WriteString(strconv.Quote(f))
			if ok {
				b.WriteByte(':')
				canonical(&b, v)
			}
			b.WriteByte(',')
		}
	}
	sum := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(sum[:16])
}

// canonical writes JSON with sorted keys and without white space; numbers stay
// as they were sent, so 1 and 1.0 differ.
func canonical(b *bytes.Buffer, v any) {
	switch v := v.(type) {
	case map[string]any:
		b.WriteByte('{')
		for i, k := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(strconv.Quote(k))
			b.WriteByte(':')
			canonical(b, v[k])
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			canonical(b, e)
		}
		b.WriteByte(']')
	case string:
		b.WriteString(strconv.Quote(v))
	case json.Number:
		b.WriteString(v.String())
	case bool:
		b.WriteString(strconv.FormatBool(v))
	default:
		b.WriteString("null")
	}
}
