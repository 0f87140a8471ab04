package deliver

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"eventhooks/internal/eventid"
	"eventhooks/internal/hook"
	"eventhooks/internal/message"
	"eventhooks/internal/strictjson"
)

// Events that the system tells about itself, under hook.SystemSource; package
// catalog describes them.
const (
	eventDeliveryFailed = "delivery-failed"
	eventBreakerOpened  = "breaker-opened"
	eventBreakerClosed  = "breaker-closed"
	eventHookDisabled   = "hook-disabled"
)

// about is what the data of all of them begin with.
type about struct {
	HookID   string  `json:"hook_id"`
	HookName *string `json:"hook_name"`
}

func aboutHook(h hook.Hook) about {
	a := about{HookID: h.ID}
	if h.Name != "" {
		a.HookName = &h.Name
	}
	return a
}

// tell queues an event about a hook, unless no other hook wants it. It is called
// before the state that it tells of is written: a crash in between tells it
// again, under the same id, for that follows from the time, which is the state's
// and not the clock's, and from parts, which say which state it is.
func (s *Service) tell(ctx context.Context, event string, h hook.Hook, atMS int64, data any, parts ...string) error {
	doc, err := strictjson.Encode(data)
	if err != nil {
		return fmt.Errorf("tell %s: %w", event, err)
	}
	ev := hook.Event{
		ID:     eventid.Derive(atMS, append([]string{event, h.ID}, parts...)...),
		Source: hook.SystemSource, Event: event, Time: s.o.Now().UTC().Truncate(time.Millisecond),
		Data: doc, Workspace: h.Workspace,
	}
	if hooks, _ := s.hooks.match(ev); len(notAbout(hooks, ev)) == 0 {
		return nil
	}
	// It may have been told before.
	return s.send(ctx, "tell "+event, []hook.Message{{Body: message.PackAgain([]hook.Event{ev})[0].Body, Group: ev.Source}})
}

// notAbout leaves out the hook that an event of the system is about: it would be
// told of its own failures, and fail.
func notAbout(hooks []hook.Hook, ev hook.Event) []hook.Hook {
	if ev.Source != hook.SystemSource {
		return hooks
	}
	var a about
	if err := json.Unmarshal(ev.Data, &a); err != nil {
		return hooks
	}
	kept := hooks[:0:0]
	for _, h := range hooks {
		if h.ID != a.HookID {
			kept = append(kept, h)
		}
	}
	return kept
}

// tellable is what others may hear of a fault: what a function raises may hold
// anything that the event does.
func tellable(h hook.Hook, fault string) string {
	if h.Handler == hook.HandlerLambda && fault != "" {
		return "the function failed"
	}
	return fault
}

// told is the time of what is told about a unit: when its attempt was due, which
// a claim that died leaves as it was, or that of the event where it has no row.
func told(u unit) int64 {
	if u.row != nil && u.row.DueMS > 0 {
		return u.row.DueMS
	}
	ms, _ := eventid.Time(u.ev.ID)
	return ms
}

// tellFailed tells that a delivery is about to end without success. Of the
// deliveries of the system's own events it tells nothing, or a hook that fails
// would be told of without end.
func (s *Service) tellFailed(ctx context.Context, u unit, d hook.Delivery) error {
	if d.Event.Source == hook.SystemSource {
		return nil
	}
	last := ""
	if n := len(d.Attempts); n > 0 {
		last = d.Attempts[n-1].Error
	}
	h := u.h
	h.Workspace = cmp.Or(h.Workspace, d.Event.Workspace)
	return s.tell(ctx, eventDeliveryFailed, h, told(u), struct {
		about
		EventID     string `json:"event_id"`
		EventSource string `json:"event_source"`
		EventName   string `json:"event_name"`
		Reason      string `json:"reason"`
		Attempts    int64  `json:"attempts"`
		Error       string `json:"error"`
	}{aboutHook(h), d.Event.ID, d.Event.Source, d.Event.Event, d.Reason, d.Attempt, tellable(h, last)}, d.Event.ID, fmt.Sprint(d.Run))
}
