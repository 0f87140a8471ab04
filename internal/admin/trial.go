package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/render"
	"eventhooks/internal/schema"
	"eventhooks/internal/strictjson"
)

// maxTrial is how long a test or a ping may take: a person waits for it, and
// API Gateway waits 30 s.
const maxTrial = 20 * time.Second

// testHook runs a hook's action with the data of the body.
func (s *Service) testHook(ctx context.Context, c *call) (*answer, error) {
	h, err := s.hook(ctx, c, errNotFound())
	if err != nil {
		return nil, err
	}
	data, err := c.document(schema.Form{})
	if err != nil {
		return nil, err
	}
	data = strictjson.Compact(nil, data) // as ingest does: a test sends the bytes that an event would
	event := h.Event
	if event == "" { // a hook for every event of its source: the body may say which
		var named struct {
			Event string `json:"event"`
		}
		if json.Unmarshal(data, &named) != nil || named.Event == "" {
			named.Event = "test"
		}
		event = named.Event
	}
	body, err := render.Body(h.Source, event, data)
	if err != nil {
		return nil, err
	}
	out := s.try(ctx, h, hook.Event{Source: h.Source, Event: event, Data: data})
	return ok(struct {
		Data   json.RawMessage `json:"data"`
		Result any             `json:"result"`
	}{body, result(h, out)}), nil
}

// pingHook sends a ping now.
func (s *Service) pingHook(ctx context.Context, c *call) (*answer, error) {
	h, err := s.hook(ctx, c, errNotFound())
	if err != nil {
		return nil, err
	}
	if !h.Calls() {
		return nil, refuse(http.StatusBadRequest, "a %s hook has no URL to ping", h.Handler)
	}
	out := s.try(ctx, h, hook.Event{Source: hook.PingSource, Event: hook.PingEvent, Data: schema.PingData(h)})
	sent := struct {
		Source string           `json:"source"`
		Event  string           `json:"event"`
		Hook   schema.ShownHook `json:"event_hooks"`
		Result any              `json:"result,omitempty"`
	}{hook.PingSource, hook.PingEvent, schema.ShowHook(h, c.view), nil}
	if out.Verdict != hook.Success {
		sent.Result = result(h, out)
	}
	return ok(sent), nil
}

// try makes one attempt that no row remembers, within maxTrial.
func (s *Service) try(ctx context.Context, h hook.Hook, ev hook.Event) hook.Outcome {
	at := s.o.Now()
	ev.ID, ev.Time = s.o.IDs.Next(), at.UTC()
	timeout := min(time.Duration(h.Config.TimeoutSeconds())*time.Second, maxTrial)
	h.Config.Timeout = int64(timeout / time.Second)
	// The action ends itself at its timeout, and says so; this is in case it
	// does not.
	ctx, cancel := context.WithTimeout(ctx, timeout+time.Second)
	defer cancel()
	return s.o.Action.Do(ctx, h, ev, at)
}

// result is what an attempt's end says: the receiver's answer or what functions
// logged, an error, or both; true for an action that has neither and succeeded.
func result(h hook.Hook, out hook.Outcome) any {
	if out.Response == nil && len(out.Log) == 0 && out.Verdict == hook.Success {
		return true
	}
	var answer schema.ShownAnswer
	if out.Response != nil {
		answer = schema.ShowAnswer(*out.Response, h, schema.ForAdmin)
	}
	if out.Verdict != hook.Success {
		answer.Error = out.Error
	}
	return answer.WithLog(out.Log)
}
