package message_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"eventhooks/internal/hook"
	"eventhooks/internal/message"
	"eventhooks/internal/strictjson"
)

var when = time.Date(2026, 11, 21, 18, 0, 0, 123_000_000, time.UTC)

func event(n int, data string) hook.Event {
	const id = "0197f3c6-1f2a-7c3d-9d2e-4b5a6c7d8e00"
	return hook.Event{
		ID:     id[:34] + string("0123456789abcdef"[n>>4&15]) + string("0123456789abcdef"[n&15]),
		Source: "balancer", Event: "health", Time: when, Data: []byte(data),
	}
}

// allowed fails the test when SQS would refuse the body.
func allowed(t testing.TB, body string) {
	t.Helper()
	if !utf8.ValidString(body) {
		t.Fatalf("body %q is not UTF-8", body)
	}
	for _, r := range body {
		switch {
		case r == '\t', r == '\n', r == '\r', r >= 0x20 && r <= 0xD7FF, r >= 0xE000 && r <= 0xFFFD, r >= 0x10000:
		default:
			t.Fatalf("body %q has %U, which SQS refuses", body, r)
		}
	}
}

func TestPack_form(t *testing.T) {
	full := event(2, `{"n":12345678901234567890.0,"s":"`+"\uffff"+`"}`)
	full.Workspace, full.Traceparent = "de\"fault\u2028", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	packed := message.Pack([]hook.Event{event(1, `{}`), full})
	if len(packed) != 1 {
		t.Fatalf("Pack made %d bodies; want 1", len(packed))
	}
	const want = `{"v":1,"events":[` +
		`{"id":"0197f3c6-1f2a-7c3d-9d2e-4b5a6c7d8e01","source":"balancer","event":"health","time":"2026-11-21T18:00:00.123Z","data":{}},` +
		`{"id":"0197f3c6-1f2a-7c3d-9d2e-4b5a6c7d8e02","source":"balancer","event":"health","time":"2026-11-21T18:00:00.123Z",` +
		`"workspace":"de\"fault` + "\u2028" + `","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",` +
		`"data":{"n":12345678901234567890.0,"s":"\uffff"}}]}`
	if packed[0].Body != want {
		t.Errorf("body = %s\nwant   %s", packed[0].Body, want)
	}
	allowed(t, packed[0].Body)
}

func TestPack_limits(t *testing.T) {
	// total is the size of a body with one event of that much data.
	total := func(data string) int { return len(message.Pack([]hook.Event{event(0, data)})[0].Body) }
	blob := func(n int) string { return `{"x":"` + strings.Repeat("x", n-8) + `"}` }
	fits := message.MaxPackedBytes - total("{}") + 2 // the data of an event that just fills a body

	shape := func(events []hook.Event) (counts []int) {
		next := 0
		for _, p := range message.Pack(events) {
			if p.First != next || p.Count < 1 {
				t.Fatalf("a body has %d events from %d; want them from %d", p.Count, p.First, next)
			}
			next += p.Count
			counts = append(counts, p.Count)
			if len(p.Body) > message.MaxPackedBytes && p.Count > 1 || p.Count > message.MaxPackedEvents {
				t.Fatalf("a body has %d bytes and %d events", len(p.Body), p.Count)
			}
		}
		if next != len(events) {
			t.Fatalf("bodies hold %d events; want %d", next, len(events))
		}
		return counts
	}
	many := func(n int, data string) (events []hook.Event) {
		for i := range n {
			events = append(events, event(i, data))
		}
		return events
	}

	tests := map[string]struct {
		events []hook.Event
		want   []int
	}{
		"no events make no body":                   {nil, nil},
		"fifty events share a body":                {many(50, `{}`), []int{50}},
		"the fifty-first has its own":              {many(51, `{}`), []int{50, 1}},
		"an event that fills a body":               {many(2, blob(fits)), []int{1, 1}},
		"two halves share a body":                  {many(4, blob(message.MaxPackedBytes/2-300)), []int{2, 2}},
		"one byte too many":                        {slices.Concat(many(1, blob(fits+1)), many(1, `{}`)), []int{1, 1}},
		"a large event leaves its neighbours be":   {slices.Concat(many(2, `{}`), many(1, blob(200<<10)), many(2, `{}`)), []int{2, 1, 2}},
		"large events each have a body":            {many(3, blob(256<<10)), []int{1, 1, 1}},
		"a thousand small events are twenty sends": {many(1000, blob(1000)), slices.Repeat([]int{50}, 20)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, shape(tt.events)); diff != "" {
				t.Errorf("events per body: -want +got\n%s", diff)
			}
		})
	}
	if got := total(blob(fits)); got != message.MaxPackedBytes {
		t.Errorf("the largest body has %d bytes; want %d", got, message.MaxPackedBytes)
	}
}

func TestPack_doesNotShareMemory(t *testing.T) {
	data := []byte(`{"a":1}`)
	packed := message.Pack([]hook.Event{{ID: "i", Source: "s", Event: "e", Data: data}})
	before := strings.Clone(packed[0].Body)
	copy(data, `{"b":2}`)
	if packed[0].Body != before {
		t.Errorf("body = %s; want %s", packed[0].Body, before)
	}
}

func TestWake(t *testing.T) {
	for want, probe := range map[string]bool{
		`{"v":1,"hook":"h","event":"e","seq":7}`:              false,
		`{"v":1,"hook":"h","event":"e","seq":7,"probe":true}`: true,
	} {
		w := hook.Wake{DeliveryKey: hook.DeliveryKey{HookID: "h", EventID: "e"}, Seq: 7, Probe: probe}
		body := message.Wake(w)
		if body != want {
			t.Errorf("Wake = %s; want %s", body, want)
		}
		got, err := message.Decode(body)
		if diff := cmp.Diff(message.Message{Wake: &w}, got); err != nil || diff != "" {
			t.Errorf("Decode: %v, -want +got\n%s", err, diff)
		}
	}
}

func TestPiece(t *testing.T) {
	for _, bounds := range [][2]string{{"", ""}, {"a", ""}, {"", "b"}, {"a", "b"}} {
		body := message.Piece(event(1, `{"a":1}`), bounds[0], bounds[1])
		got, err := message.Decode(body)
		want := message.Message{Events: []hook.Event{event(1, `{"a":1}`)}, Lo: bounds[0], Hi: bounds[1]}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("Decode(%s): %v, -want +got\n%s", body, err, diff)
		}
		allowed(t, body)
	}
}

func TestRecord(t *testing.T) {
	d := hook.Delivery{
		HookID: "h", Event: event(3, `{"n":1.000000000000000000001,"s":"<&>`+"\uffff"+`"}`),
		Gen: 1, Status: hook.Pending, Reason: hook.ReasonExhausted,
		Run: 2, Attempt: 3, Seq: 4, Tries: 5, Parks: 6, Nudges: 7,
		CreatedMS: 8, DeadlineMS: 9, DueMS: 10, WakeMS: 11, LeaseMS: 12,
		Attempts: []hook.Attempt{
			{AtMS: 13, TookMS: 14, Code: 503, Error: "unexpected status 503", IP: "192.0.2.1"},
			{AtMS: 15, TookMS: 0},
		},
		Response: &hook.Response{Code: 503, Headers: map[string]string{"Server": "<x>\ufffe"}, Body: "a\x00b\ufffe\U0001F600"},
		SlotKey:  "slot", SnoozeKey: "snooze", ExpiresAt: 16,
	}
	body := message.Record(d)
	allowed(t, body)
	got, err := message.Decode(body)
	want := d
	want.Event.Data = bytes.ReplaceAll(d.Event.Data, []byte("\uffff"), []byte(`\uffff`))
	if diff := cmp.Diff(message.Message{Record: &want}, got); err != nil || diff != "" {
		t.Errorf("Decode(%s): %v, -want +got\n%s", body, err, diff)
	}

	t.Run("a receiver's answer need not be UTF-8", func(t *testing.T) {
		d := d
		d.Response = &hook.Response{Body: "a\xffb", Headers: map[string]string{"X": "\xfe"}}
		body := message.Record(d)
		allowed(t, body)
		got, err := message.Decode(body)
		if err != nil || got.Record.Response.Body != "a\ufffdb" {
			t.Errorf("Decode = %+v, %v; want the bad byte replaced", got.Record, err)
		}
	})

	t.Run("a row goes even if its data is no JSON", func(t *testing.T) {
		d := d
		d.Event.Data = []byte(`{"a":`)
		got, err := message.Decode(message.Record(d))
		if err != nil || got.Record.Status != d.Status || string(got.Record.Event.Data) != "{}" {
			t.Errorf("Decode = %+v, %v; want the row with empty data", got.Record, err)
		}
	})
}

// Whatever ingest can take comes back as it was; only the spelling of U+FFFE
// and U+FFFF in the data may differ.
func TestPack_roundTrip(t *testing.T) {
	text := rapid.StringOf(rapid.OneOf(rapid.Rune(), rapid.SampledFrom([]rune{'\ufffe', '\uffff', '\ufffd', '"', '\\', 0, 0x1f, 0x7f, 0x2028, '😀', 0x10ffff, '<'})))
	event := rapid.Custom(func(t *rapid.T) hook.Event {
		data := map[string]any{}
		for range rapid.IntRange(0, 3).Draw(t, "members") {
			data[text.Draw(t, "name")] = text.Draw(t, "value")
		}
		if rapid.IntRange(0, 30).Draw(t, "large") == 30 {
			data["large"] = strings.Repeat(rapid.SampledFrom([]string{"x", "\uffff", "\"", "😀"}).Draw(t, "unit"), rapid.IntRange(0, 60<<10).Draw(t, "size"))
		}
		raw, err := strictjson.Encode(data)
		if err != nil {
			t.Fatal(err)
		}
		return hook.Event{
			ID: rapid.StringMatching(`[0-9a-f-]{36}`).Draw(t, "id"), Source: rapid.StringMatching(`[a-z:-]{1,20}`).Draw(t, "source"),
			Event: text.Filter(func(s string) bool { return s != "" }).Draw(t, "event"),
			Time: time.Unix(rapid.Int64Range(-62135596800, 253402300799).Draw(t, "s"),
				rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC(),
			Data: raw, Workspace: text.Draw(t, "workspace"), Traceparent: text.Draw(t, "traceparent"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		// A few, again and again: drawing each of a hundred takes long.
		events := slices.Repeat(rapid.SliceOfN(event, 1, 6).Draw(t, "events"), rapid.IntRange(1, 20).Draw(t, "times"))
		var got []hook.Event
		for _, p := range message.Pack(events) {
			if p.First != len(got) || len(p.Body) > message.MaxPackedBytes && p.Count > 1 || p.Count > message.MaxPackedEvents {
				t.Fatalf("a body from %d with %d events and %d bytes", p.First, p.Count, len(p.Body))
			}
			for _, r := range p.Body {
				if r == '\ufffe' || r == '\uffff' || r < ' ' {
					t.Fatalf("body has %U", r)
				}
			}
			m, err := message.Decode(p.Body)
			if err != nil || len(m.Events) != p.Count {
				t.Fatalf("Decode = %d events, %v; want %d", len(m.Events), err, p.Count)
			}
			got = append(got, m.Events...)
		}
		spell := strings.NewReplacer("\ufffe", `\ufffe`, "\uffff", `\uffff`)
		for i := range events {
			events[i].Data = []byte(spell.Replace(string(events[i].Data)))
		}
		if diff := cmp.Diff(events, got, cmp.Comparer(bytes.Equal)); diff != "" {
			t.Fatalf("-want +got\n%s", diff)
		}
	})
}

func TestPackAgain(t *testing.T) {
	var events []hook.Event
	for i := range 2*message.MaxPackedEvents + 1 {
		events = append(events, event(i, `{"a":1}`))
	}
	var got []hook.Event
	for _, p := range message.PackAgain(events) {
		m, err := message.Decode(p.Body)
		if err != nil || !m.Again || len(m.Events) != p.Count {
			t.Fatalf("Decode = %d events, again %v, %v; want %d, true", len(m.Events), m.Again, err, p.Count)
		}
		got = append(got, m.Events...)
	}
	if diff := cmp.Diff(events, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestPack_256KB(t *testing.T) {
	for _, unit := range []string{"x", "\uffff", "é", "😀", `\\`} {
		data := `{"x":"` + strings.Repeat(unit, (256<<10-8)/len(unit)) + `"}`
		packed := message.Pack([]hook.Event{event(1, data)})
		if len(packed) != 1 || len(packed[0].Body) > hook.MaxMessageBytes {
			t.Fatalf("Pack of 256 KB of %q made %d bodies, the first of %d bytes", unit, len(packed), len(packed[0].Body))
		}
		allowed(t, packed[0].Body)
		m, err := message.Decode(packed[0].Body)
		if err != nil {
			t.Fatal(err)
		}
		var got, want any
		if err := errors.Join(json.Unmarshal(m.Events[0].Data, &got), json.Unmarshal([]byte(data), &want)); err != nil {
			t.Fatal(err)
		}
		if !cmp.Equal(got, want) {
			t.Errorf("256 KB of %q came back different", unit)
		}
	}
}

func TestDecode_refuses(t *testing.T) {
	good := message.Pack([]hook.Event{event(1, `{"a":1}`)})[0].Body
	swap := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%s has no %s", good, old)
		}
		return strings.Replace(good, old, new, 1)
	}
	record := message.Record(hook.Delivery{HookID: "h", Status: hook.Failed, Event: event(1, `{}`)})
	tests := map[string]struct {
		body string
		is   error // nil: any
	}{
		"nothing":                              {``, nil},
		"text":                                 {`hello`, nil},
		"an array":                             {`[]`, nil},
		"an empty object":                      {`{}`, message.ErrVersion},
		"no version":                           {`{"hook":"h","event":"e","seq":1}`, message.ErrVersion},
		"a later version":                      {swap(`"v":1`, `"v":2`), message.ErrVersion},
		"a later version of another shape":     {`{"v":7,"what":{}}`, message.ErrVersion},
		"a version that is no number":          {swap(`"v":1`, `"v":"1"`), nil},
		"a version and nothing else":           {`{"v":1}`, message.ErrShape},
		"no events":                            {`{"v":1,"events":[]}`, message.ErrShape},
		"events and a wake-up":                 {swap(`"v":1`, `"v":1,"hook":"h"`), message.ErrShape},
		"bounds without events":                {`{"v":1,"lo":"a"}`, message.ErrShape},
		"a wake-up without event":              {`{"v":1,"hook":"h","seq":1}`, message.ErrShape},
		"a probe that is none":                 {`{"v":1,"hook":"h","event":"e","seq":1,"probe":false}`, nil},
		"a probe that is no boolean":           {`{"v":1,"hook":"h","event":"e","seq":1,"probe":"true"}`, nil},
		"a probe without hook and event":       {`{"v":1,"probe":true}`, message.ErrShape},
		"a probe of events":                    {swap(`"v":1`, `"v":1,"probe":true`), message.ErrShape},
		"a probe and a record":                 {strings.Replace(record, `"v":1`, `"v":1,"probe":true`, 1), message.ErrShape},
		"a wake-up without hook":               {`{"v":1,"event":"h","seq":1}`, message.ErrShape},
		"a record and a wake-up":               {strings.Replace(record, `"v":1`, `"v":1,"seq":1`, 1), message.ErrShape},
		"a record without hook":                {strings.Replace(record, `"hook":"h"`, `"hook":""`, 1), message.ErrShape},
		"a record with something unknown":      {strings.Replace(record, `"hook":"h"`, `"hook":"h","x":1`, 1), nil},
		"a record without event":               {`{"v":1,"record":{"hook":"h","status":"failed"}}`, nil},
		"a record that is no object":           {`{"v":1,"record":[]}`, nil},
		"something unknown":                    {swap(`"v":1`, `"v":1,"x":1`), nil},
		"something unknown in an event":        {swap(`"source"`, `"x":1,"source"`), nil},
		"an event without id":                  {swap(`"id":"0197f3c6-1f2a-7c3d-9d2e-4b5a6c7d8e01",`, ``), nil},
		"an event without time":                {swap(`"time":"2026-11-21T18:00:00.123Z",`, ``), nil},
		"an event without data":                {swap(`,"data":{"a":1}`, ``), nil},
		"a time before the year 0":             {swap(`2026-11-21T18:00:00.123Z`, `0000-01-01T00:00:00+01:00`), nil},
		"data that is no object":               {swap(`{"a":1}`, `[1]`), nil},
		"a time of another form":               {swap(`2026-11-21T18:00:00.123Z`, `yesterday`), nil},
		"a name that is there twice":           {swap(`"v":1`, `"v":1,"v":1`), nil},
		"data with a name that is there twice": {swap(`{"a":1}`, `{"a":1,"a":2}`), nil},
		"something after it":                   {good + `{}`, nil},
		"half of it":                           {good[:len(good)/2], nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m, err := message.Decode(tt.body)
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("Decode(%s) = %v; want an error, %v", tt.body, err, tt.is)
			}
			if diff := cmp.Diff(message.Message{}, m); diff != "" {
				t.Errorf("Decode returned something beside the error:\n%s", diff)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(message.Pack([]hook.Event{event(1, `{"a":[1,2,{"b":"`+"\uffff"+`"}]}`), event(2, `{}`)})[0].Body)
	f.Add(message.Piece(event(1, `{}`), "a", "b"))
	f.Add(message.Wake(hook.Wake{DeliveryKey: hook.DeliveryKey{HookID: "h", EventID: "e"}, Seq: 1}))
	f.Add(message.Wake(hook.Wake{DeliveryKey: hook.DeliveryKey{HookID: "h", EventID: "e"}, Seq: 1, Probe: true}))
	f.Add(message.Record(hook.Delivery{
		HookID: "h", Status: hook.Failed, Event: event(1, `{}`), Attempts: []hook.Attempt{{AtMS: 1}},
		Response: &hook.Response{Headers: map[string]string{"a": "b"}},
	}))
	f.Add(`{"v":2}`)
	f.Add(`{"v":1,"record":null}`)
	f.Add(`{"v":1,"events":null}`)
	f.Fuzz(func(t *testing.T, body string) {
		m, err := message.Decode(body)
		if err != nil {
			return
		}
		// What was understood is said again, and understood the same.
		var again string
		switch {
		case m.Wake != nil && m.Events == nil && m.Record == nil:
			again = message.Wake(*m.Wake)
		case m.Record != nil && m.Events == nil:
			again = message.Record(*m.Record)
		case len(m.Events) == 1:
			again = message.Piece(m.Events[0], m.Lo, m.Hi)
		case len(m.Events) > 1:
			packed := message.Pack(m.Events)
			if len(packed) > 1 || m.Lo != "" || m.Hi != "" {
				return
			}
			again = packed[0].Body
		default:
			t.Fatalf("Decode(%q) = %+v", body, m)
		}
		allowed(t, again)
		got, err := message.Decode(again)
		if err != nil {
			t.Fatalf("Decode(%q), made of %q: %v", again, body, err)
		}
		for _, ev := range [][]hook.Event{m.Events, got.Events} {
			for i := range ev {
				ev[i].Data = []byte(strings.NewReplacer("\ufffe", `\ufffe`, "\uffff", `\uffff`).Replace(string(ev[i].Data)))
			}
		}
		if m.Record != nil {
			// encoding/json compacts the data of a record.
			for _, d := range []*hook.Delivery{m.Record, got.Record} {
				var v any
				if err := json.Unmarshal(d.Event.Data, &v); err != nil {
					t.Fatal(err)
				}
				d.Event.Data, _ = json.Marshal(v)
			}
		}
		if diff := cmp.Diff(m, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%q: -want +got\n%s", body, diff)
		}
	})
}

// kilobyte is about 1 KB of data.
var kilobyte = `{"upstream_id":"3d2aaac6-0400-401d-aac0-3f6a1bd3b6b7","ip":"10.16.0.2","port":3000,"hostname":"web1.example.test","health":"unhealthy","note":"` + strings.Repeat("all is not well; ", 50) + `"}`

func BenchmarkPack(b *testing.B) {
	for name, n := range map[string]int{"1 event": 1, "25 events": 25} {
		b.Run(name, func(b *testing.B) {
			events := slices.Repeat([]hook.Event{event(1, kilobyte)}, n)
			b.ReportAllocs()
			for b.Loop() {
				message.Pack(events)
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, n := range map[string]int{"1 event": 1, "25 events": 25} {
		b.Run(name, func(b *testing.B) {
			body := message.Pack(slices.Repeat([]hook.Event{event(1, kilobyte)}, n))[0].Body
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := message.Decode(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("25 events with the standard library", func(b *testing.B) {
		body := message.Pack(slices.Repeat([]hook.Event{event(1, kilobyte)}, 25))[0].Body
		b.ReportAllocs()
		for b.Loop() {
			var m struct {
				V      int
				Events []struct {
					ID, Source, Event      string
					Time                   time.Time
					Workspace, Traceparent string
					Data                   json.RawMessage
				}
			}
			if err := json.Unmarshal([]byte(body), &m); err != nil {
				b.Fatal(err)
			}
		}
	})
}
