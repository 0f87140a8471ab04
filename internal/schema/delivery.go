package schema

import (
	"encoding/json"
	"strings"
	"time"

	"eventhooks/internal/hook"
)

// Time returns how people read a time given in Unix milliseconds: RFC 3339,
// UTC, with milliseconds; nil, which is null, for 0.
func Time(ms int64) *string {
	if ms == 0 {
		return nil
	}
	s := time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
	return &s
}

// ShownDelivery is a row of the delivery list.
type ShownDelivery struct {
	EventID   string         `json:"event_id"`
	HookID    string         `json:"hook_id"`
	Source    string         `json:"source"`
	Event     string         `json:"event"`
	Status    hook.Status    `json:"status"`
	Run       int64          `json:"run"`
	DueAt     *string        `json:"due_at"`
	Reason    *string        `json:"reason"`
	CreatedAt *string        `json:"created_at"`
	Attempts  []shownAttempt `json:"attempts"`
}

type shownAttempt struct {
	At     *string `json:"at"`
	TookMS int64   `json:"took_ms"`
	Status *int    `json:"status"`
	Error  *string `json:"error"`
	IP     *string `json:"ip"`
}

// ShownDetail is a delivery with what was sent and answered.
type ShownDetail struct {
	ShownDelivery
	Data json.RawMessage `json:"data"`
	Rerendered
	Response *ShownAnswer `json:"response"`
}

// Rerendered is what a delivery's request looks like by the hook as it is now.
// The zero value is that of a hook that is gone.
type Rerendered struct {
	Request      *ShownRequest `json:"request"`       // null for a hook that makes none, or whose request cannot be built
	RenderedWith *string       `json:"rendered_with"` // the hook's ETag
	RequestError *string       `json:"request_error"` // why it cannot be built
}

// ShownAnswer is what a receiver answered, or what went wrong instead.
type ShownAnswer struct {
	Status  int               `json:"status,omitempty"` // left out when there was no answer
	Headers map[string]string `json:"headers,omitzero"`
	Body    *string           `json:"body,omitempty"`
	Error   string            `json:"error,omitempty"`
	Log     []shownLine       `json:"log,omitempty"` // lambda only
}

// shownLine is one line that a Lua function logged.
type shownLine struct {
	Level   string `json:"level"`
	Message string `json:"message"`
}

// WithLog returns the answer with what Lua functions logged.
func (a ShownAnswer) WithLog(lines []hook.LogLine) ShownAnswer {
	for _, l := range lines {
		a.Log = append(a.Log, shownLine(l))
	}
	return a
}

// ShowDelivery returns a row of the delivery list.
func ShowDelivery(d hook.Delivery) ShownDelivery {
	s := ShownDelivery{
		EventID: d.Event.ID, HookID: d.HookID, Source: d.Event.Source, Event: d.Event.Event,
		Status: d.Status, Run: d.Run, Reason: orNull(d.Reason), CreatedAt: Time(d.CreatedMS),
		Attempts: make([]shownAttempt, 0, len(d.Attempts)),
	}
	if d.Status == hook.Pending {
		s.DueAt = Time(d.DueMS)
	}
	for _, a := range d.Attempts {
		s.Attempts = append(s.Attempts, shownAttempt{
			At: Time(a.AtMS), TookMS: a.TookMS, Status: orNull(a.Code), Error: orNull(a.Error), IP: orNull(a.IP),
		})
	}
	return s
}

// ShowDetail returns a delivery as v may see it: with its event's data, its
// request rendered again, and the answer to its last failed attempt. h is the
// hook as it is now, its zero value when there is none.
func ShowDetail(d hook.Delivery, h hook.Hook, v View, again Rerendered) ShownDetail {
	s := ShownDetail{ShownDelivery: ShowDelivery(d), Data: EventData(d.Event, v), Rerendered: again}
	if d.Response != nil {
		answer := ShowAnswer(*d.Response, h, v)
		s.Response = &answer
	}
	return s
}

// EventData returns an event's data as v may see it: a ping's holds the hook's
// URL.
func EventData(ev hook.Event, v View) json.RawMessage {
	if ev.Source == hook.PingSource && v == ForReader {
		return redactPing(ev.Data)
	}
	return json.RawMessage(ev.Data)
}

// ShowAnswer returns what a receiver answered to a hook's request, as v may see
// it. A receiver may repeat what it was sent, so the hook's secrets are hidden
// in it, and from readers its URL: also by where the answer points.
func ShowAnswer(r hook.Response, h hook.Hook, v View) ShownAnswer {
	hide := hider(h, v)
	blind := v == ForReader && h.ID == "" // nobody knows what it must not say
	headers := redactHeaders(r.Headers)
	for name, value := range headers {
		headers[name] = hide.Replace(value)
		if blind || v == ForReader && pointsElsewhere(name) {
			headers[name] = hook.Redacted
		}
	}
	body := hide.Replace(r.Body)
	if blind && body != "" {
		body = hook.Redacted
	}
	return ShownAnswer{Status: r.Code, Headers: headers, Body: &body}
}

// pointsElsewhere tells of headers that hold a URL, which may be the hook's own
// with another scheme or host.
func pointsElsewhere(name string) bool {
	switch strings.ToLower(name) {
	case "location", "content-location", "refresh", "link":
		return true
	}
	return false
}
