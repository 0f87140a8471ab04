package schema

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"eventhooks/internal/hook"
)

// ShownSnooze is a snooze window that is open, as people read it.
type ShownSnooze struct {
	Key         string  `json:"key"`
	Source      string  `json:"source"`
	Event       string  `json:"event"`
	EventID     string  `json:"event_id"` // of the event that opened it
	Suppressed  int64   `json:"suppressed"`
	Until       *string `json:"until"`
	LastEventID *string `json:"last_event_id"` // of the last event that was dropped
	Reason      *string `json:"reason"`        // why that was
}

// ShowSnooze returns a window as people read it; source and event are what its
// key is of.
func ShowSnooze(w hook.OpenSnooze, source, event string) ShownSnooze {
	return ShownSnooze{
		Key: base64.RawURLEncoding.EncodeToString([]byte(w.Key)), Source: source, Event: event,
		EventID: w.By, Suppressed: w.Suppressed, Until: Time(w.UntilMS),
		LastEventID: orNull(w.LastEvent), Reason: orNull(w.LastReason),
	}
}

// maxSnoozeKey bounds a window's key in bytes: no longer one can be stored.
const maxSnoozeKey = 1024

// SnoozeKey returns the key of a window that ShowSnooze shows as shown; false
// for what it never shows.
func SnoozeKey(shown string) (string, bool) {
	key, err := base64.RawURLEncoding.Strict().DecodeString(shown)
	if err != nil || len(key) == 0 || len(key) > maxSnoozeKey || !utf8.Valid(key) || strings.ContainsAny(shown, "\r\n") {
		return "", false
	}
	return string(key), true
}
