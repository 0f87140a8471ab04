package lambdaevent_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"eventhooks/internal/hook"
	"eventhooks/internal/lambdaevent"
)

func noProbe(context.Context, hook.UpstreamRange) error { panic("probed") }

func TestProbe(t *testing.T) {
	t.Run("an event says which upstreams a run is for", func(t *testing.T) {
		for raw, want := range map[string]hook.UpstreamRange{
			`{}`: {},
			string(readSample(t, "healthprobe-schedule.json")): {},
			string(readSample(t, "healthprobe-part.json")): {
				From: "0192f0c4-7d1b-7c52-8a3e-5f1c0b7a9d21", To: "0199b6de-2f40-7a86-9b1d-c4e5d60718f2",
			},
			` {"to":"b", "from":"a"} `: {From: "a", To: "b"},
			`{"from":"a"}`:             {From: "a"},
			`{"from":"","to":"b"}`:     {To: "b"},
		} {
			var got []hook.UpstreamRange
			err := lambdaevent.Probe(func(_ context.Context, part hook.UpstreamRange) error {
				got = append(got, part)
				return nil
			})(t.Context(), json.RawMessage(raw))
			if err != nil || len(got) != 1 || got[0] != want {
				t.Errorf("%s: ran for %v, %v; want once, for %v", raw, got, err, want)
			}
		}
	})
	t.Run("a part that was sent is the part that arrives", func(t *testing.T) {
		for _, want := range []hook.UpstreamRange{{}, {From: "a"}, {To: "b"}, {From: "a", To: "b"}, {From: `"<é>\`}} {
			err := lambdaevent.Probe(func(_ context.Context, got hook.UpstreamRange) error {
				if got != want {
					t.Errorf("part = %v; want %v", got, want)
				}
				return nil
			})(t.Context(), lambdaevent.ProbeEvent(want))
			if err != nil {
				t.Errorf("%v: %v", want, err)
			}
		}
	})
	t.Run("any other event is an error, and nothing is probed", func(t *testing.T) {
		for _, raw := range []string{
			``, `null`, `[]`, `1`, `"from"`, `{`, `{"from":1}`, `{"to":{}}`, `{"from":null}`, `{"From":"a"}`, `{"from":"a","also":"b"}`,
			`{"sweep":true}`, `{"create_token":{}}`, `{"Records":[]}`, `{"from":"b","to":"a"}`, `{"from":"a","to":"a"}`,
			`{"from":"` + strings.Repeat("a", 1<<10) + `"}`, strings.Repeat(" ", 1<<10) + `{}`,
			string(readSample(t, "deliver-sqs.json")), string(readSample(t, "ingest-post.json")),
		} {
			if err := lambdaevent.Probe(noProbe)(t.Context(), json.RawMessage(raw)); err == nil || strings.Contains(err.Error(), "panic") {
				t.Errorf("%.80s: %v; want an error, without a run", raw, err)
			}
		}
	})
	t.Run("a failed run is an error, so is a panic", func(t *testing.T) {
		quiet(t)
		want := errors.New("no store")
		failing := func(context.Context, hook.UpstreamRange) error { return want }
		if err := lambdaevent.Probe(failing)(t.Context(), json.RawMessage(`{}`)); !errors.Is(err, want) {
			t.Errorf("a failed run: %v; want its error", err)
		}
		if err := lambdaevent.Probe(noProbe)(t.Context(), json.RawMessage(`{}`)); err == nil {
			t.Error("a panic is no error; want one")
		}
	})
}
