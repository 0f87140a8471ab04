package schema

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"eventhooks/internal/hook"
)

// Bounds of a registered event.
const (
	maxSourceName  = 64       // of source and event; characters
	maxDescription = 1024     // bytes
	maxFields      = 200      // of one event
	maxSample      = 16 << 10 // bytes
)

func sourceFields() []field {
	name := field{kind: text, most: maxName, check: plain}
	return []field{
		{name: "description", kind: text, most: maxDescription},
		{name: "fields", kind: set, most: maxFields, elements: &name},
		{name: "unique", kind: set, most: maxFields, elements: &name},
		{name: "slot", kind: set, most: maxFields, elements: &name},
		{name: "sample", kind: free, most: maxSample},
	}
}

// SourceForm reads events of the catalogue from forms.
func SourceForm() Form { return Form{sourceFields()} }

// NewSource reads an event of the catalogue, whose source and name come from
// the path: those faults are named `source` and `event`. Errors are those of
// NewHook.
func NewSource(doc []byte, source, event string) (hook.Source, error) {
	if err := isObject(doc); err != nil {
		return hook.Source{}, err
	}
	var faults Faults
	for name, value := range map[string]string{"source": source, "event": event} {
		if fault := sourceNameFault(value); fault != "" {
			faults.Add(fault, name)
		}
	}
	if source == hook.SystemSource || source == hook.PingSource {
		faults.Add("reserved", "source")
	}
	o := readRecord(doc, sourceFields(), &faults)
	s := hook.Source{
		Source: source, Event: event, Description: o.text("description"),
		Fields: o.texts("fields"), Unique: o.texts("unique"), Slot: o.texts("slot"),
	}
	if sample, ok := o["sample"].(json.RawMessage); ok {
		s.Sample = sample
	}
	// A key made of fields that no event has would make all events the same.
	for name, list := range map[string][]string{"unique": s.Unique, "slot": s.Slot} {
		for i, f := range list {
			if len(s.Fields) > 0 && !slices.Contains(s.Fields, f) {
				faults.field(name).item(i + 1).Add("expected one of: " + strings.Join(s.Fields, ", "))
			}
		}
	}
	return s, faults.Err()
}

// IsSourceName reports whether a source or an event may be registered under
// the name.
func IsSourceName(s string) bool { return sourceNameFault(s) == "" }

func sourceNameFault(s string) string {
	if s == "" || len(s) > maxSourceName {
		return fmt.Sprintf("length must be at least 1 and at most %d", maxSourceName)
	}
	if s == "." || s == ".." {
		return "invalid value: a client takes it for a step in the path"
	}
	for i := range len(s) {
		c := s[i]
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !alnum && !strings.Contains("_.:-", string(rune(c))) {
			return "invalid value: it must only contain letters, digits and _ . : -"
		}
	}
	return ""
}

// ShownSource is an event of the catalogue as people read it. What it has not
// is left out, but for the fields, as in Kong.
type ShownSource struct {
	Description string          `json:"description,omitempty"`
	Fields      []string        `json:"fields"`
	Unique      []string        `json:"unique,omitempty"`
	Slot        []string        `json:"slot,omitempty"`
	Sample      json.RawMessage `json:"sample,omitempty"`
}

// ShowSource returns the event as people read it.
func ShowSource(s hook.Source) ShownSource {
	fields := s.Fields
	if fields == nil {
		fields = []string{}
	}
	return ShownSource{Description: s.Description, Fields: fields, Unique: s.Unique, Slot: s.Slot, Sample: s.Sample}
}
