package schema

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"eventhooks/internal/hook"
	"eventhooks/internal/strictjson"
)

// Rendering is a request to show what a hook would send.
type Rendering struct {
	Hook   []byte // a document for NewHook; nil when it is at fault or missing
	HookID string // the id in it, lower case; "" when there is none, or no UUID
	// Kept are the values of the hook that were sent redacted: only the stored
	// hook of that id holds them.
	Kept Kept

	Source, Event, Workspace string // "" for those that the hook has
	Data                     []byte // a JSON object; nil for a sample
}

func renderingFields(hookKind kind) []field {
	all := formFields()
	fields := []field{
		{name: "hook", kind: hookKind, fields: all},
		{name: "data", kind: free},
	}
	for _, f := range all {
		if f.name == "source" || f.name == "event" || f.name == "workspace" {
			f.required = false
			fields = append(fields, f)
		}
	}
	return fields
}

// RenderingForm reads renderings from forms.
func RenderingForm() Form { return Form{renderingFields(record)} }

// NewRendering reads a request to render. What is wrong inside the hook is for
// NewHook to say. The error is a *strictjson.Error, or *Faults; beside *Faults
// the rendering is what was right, so that the hook's faults can be told
// together with the others.
func NewRendering(doc []byte) (Rendering, error) {
	members, err := strictjson.Object(doc, strictjson.Limits{})
	if err != nil {
		return Rendering{}, err
	}
	var faults Faults
	o := readRecord(doc, renderingFields(ignored), &faults)
	r := Rendering{Source: o.text("source"), Event: o.text("event"), Workspace: o.text("workspace")}
	if data, ok := o["data"].(json.RawMessage); ok {
		r.Data = data
	}
	for _, m := range members {
		if m.Name == "hook" && strictjson.Kind(m.Value) == '{' {
			r.Hook = m.Value
		} else if m.Name == "hook" && strictjson.Kind(m.Value) != 'n' {
			faults.Add("expected a record", "hook")
		}
	}
	if r.Hook == nil {
		faults.Add(missing, "hook")
	}
	r.readHook()
	return r, faults.Err()
}

// readHook notes the hook's id and what was sent redacted.
func (r *Rendering) readHook() {
	for _, m := range membersOf(r.Hook) {
		switch m.Name {
		case "id":
			id, _ := strictjson.String(m.Value)
			r.HookID, _ = UUID(id)
		case "config":
			for _, c := range membersOf(m.Value) {
				switch c.Name {
				case "secret":
					r.Kept.secret = isRedacted(c.Value)
				case "headers":
					for _, h := range membersOf(c.Value) {
						if isRedacted(h.Value) {
							r.Kept.headers = append(r.Kept.headers, http.CanonicalHeaderKey(h.Name))
						}
					}
				}
			}
		}
	}
}

// membersOf returns the members of an object, none of what is no object.
func membersOf(raw []byte) []strictjson.Member {
	if strictjson.Kind(raw) != '{' {
		return nil
	}
	members, _ := strictjson.Object(raw, strictjson.Limits{}) // part of a document that was checked
	return members
}

func isRedacted(raw []byte) bool {
	s, ok := strictjson.String(raw)
	return ok && s == hook.Redacted
}

// Kept says which values of a hook only the store holds, so that nobody may
// read them. The zero value is none.
type Kept struct {
	all     bool
	secret  bool
	headers []string // canonical
}

// KeptAll is what is kept of a hook that is stored.
func KeptAll() Kept { return Kept{all: true} }

// ShownRequest is a request as people read it.
type ShownRequest struct {
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Body    *string           `json:"body"` // null for none
}

// ShowRequest returns a hook's request as v may see it. Of what is kept it
// shows no headers whose names tell of a secret, and no signature that the
// secret made.
func ShowRequest(r hook.Request, v View, kept Kept) *ShownRequest {
	s := &ShownRequest{Method: r.Method, URL: sentURL(r.URL), Headers: make(map[string]string, len(r.Headers)), Body: orNull(string(r.Body))}
	if v == ForReader {
		s.URL = redactURL(r.URL)
	}
	for name, values := range r.Headers {
		value := strings.Join(values, ", ")
		switch signature := name == "Webhook-Signature" || name == "X-Kong-Signature"; {
		case signature && (kept.all || kept.secret):
			value = hook.Redacted
		case hook.SecretHeader(name) && (kept.all || slices.Contains(kept.headers, name)):
			value = hook.Redacted
		}
		s.Headers[name] = value
	}
	return s
}

// sentURL is a URL as a request has it: escaped, and without its fragment.
func sentURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	u.Fragment, u.RawFragment = "", ""
	return u.String()
}

// ShownRendering is what a hook would send.
type ShownRendering struct {
	Matches  bool          `json:"matches"`
	Reasons  []string      `json:"reasons"` // why it does not match
	Event    ShownEvent    `json:"event"`
	Request  *ShownRequest `json:"request"` // null for a hook that makes none, or whose request cannot be built
	Error    *string       `json:"error"`   // why it cannot
	Warnings []string      `json:"warnings"`
}

// ShownEvent is an event as people read it.
type ShownEvent struct {
	ID        string          `json:"id"`
	Source    string          `json:"source"`
	Event     string          `json:"event"`
	Time      *string         `json:"time"`
	Data      json.RawMessage `json:"data"`
	Workspace *string         `json:"workspace"`
}

// ShowEvent returns an event as people read it.
func ShowEvent(ev hook.Event) ShownEvent {
	return ShownEvent{
		ID: ev.ID, Source: ev.Source, Event: ev.Event, Time: Time(ev.Time.UnixMilli()),
		Data: json.RawMessage(ev.Data), Workspace: orNull(ev.Workspace),
	}
}
