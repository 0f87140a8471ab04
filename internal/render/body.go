package render

import (
	"bytes"
	"slices"

	"eventhooks/internal/strictjson"
)

// Body returns what a webhook gets of an event: the fields of its data, and its
// source and event, which win, in one flat object, as Kong has it. What the
// data say stays byte for byte, unless they have a source or event of their
// own, which is left out. The error is a *strictjson.Error when data is no JSON
// object.
func Body(source, event string, data []byte) ([]byte, error) {
	members, err := strictjson.Object(data, strictjson.Limits{})
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(data)+len(source)+len(event)+32)
	b = append(b, `{"source":`...)
	b = appendQuoted(b, source)
	b = append(b, `,"event":`...)
	b = appendQuoted(b, event)
	ours := func(m strictjson.Member) bool { return m.Name == "source" || m.Name == "event" }
	switch {
	case len(members) == 0:
		return append(b, '}'), nil
	case !slices.ContainsFunc(members, ours):
		b = append(b, ',')
		return append(b, data[bytes.IndexByte(data, '{')+1:]...), nil
	}
	for _, m := range members {
		if !ours(m) {
			b = append(b, ',')
			b = appendQuoted(b, m.Name)
			b = append(b, ':')
			b = append(b, m.Value...)
		}
	}
	return append(b, '}'), nil
}

// appendQuoted appends s as a JSON string.
func appendQuoted(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			if q, err := strictjson.Encode(s); err == nil { // a string always encodes
				return append(b, q...)
			}
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
