package dynamostore

import (
	"bytes"
	"compress/flate"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/hook"
)

func TestPack(t *testing.T) {
	noise := make([]byte, 5000)
	rand.Read(noise)
	tests := []struct {
		name  string
		plain []byte
		max   int // bytes packed
	}{
		{"nothing", nil, 1},
		{"a short text is not compressed", []byte(`{"a":1}`), 8},
		{"a text that repeats itself shrinks", bytes.Repeat([]byte(`{"upstream":"u1","health":"unhealthy"},`), 200), 400},
		{"noise grows by no more than the format byte", noise, 5001},
		{"as much as the bound", make([]byte, maxUnpacked), 8 << 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			packed, err := pack(tt.plain)
			if err != nil {
				t.Fatal(err)
			}
			if len(packed) > tt.max {
				t.Errorf("pack(%d bytes) = %d bytes; want at most %d", len(tt.plain), len(packed), tt.max)
			}
			got, err := unpack(packed)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, tt.plain) {
				t.Errorf("unpack(pack(%.40q)) = %.40q", tt.plain, got)
			}
		})
	}
}

func TestPack_bounds(t *testing.T) {
	if _, err := pack(make([]byte, maxUnpacked+1)); !errors.Is(err, errTooLarge) {
		t.Errorf("pack(too much) = %v; want %v", err, errTooLarge)
	}
	bomb := bytes.NewBuffer([]byte{packedDeflate})
	w, err := flate.NewWriter(bomb, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, maxUnpacked+1)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := unpack(bomb.Bytes()); !errors.Is(err, errTooLarge) {
		t.Errorf("unpack(%d bytes that become too many) = %v; want %v", bomb.Len(), err, errTooLarge)
	}
}

func TestUnpack_refuses(t *testing.T) {
	whole, err := packEvent(hook.Event{Time: time.Unix(1, 2), Workspace: "w", Traceparent: "t", Data: []byte(strings.Repeat(`{"a":"b"}`, 50))})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{nil, {0}, {3, 1, 2}, whole[:len(whole)-4], {packedDeflate}, {packedDeflate, 0xff, 0xff}} {
		if got, err := unpack(b); err == nil {
			t.Errorf("unpack(%x) = %x; want an error", b, got)
		}
	}
	for _, b := range [][]byte{{packedPlain}, {packedPlain, 0}, {packedPlain, 0, 0, 9, 'x'}, {packedPlain, 0, 0, 0, 0xff, 0xff}} {
		if err := unpackEvent(b, &hook.Event{}); err == nil {
			t.Errorf("unpackEvent(%x) = nil; want an error", b)
		}
	}
}

func TestPackEvent(t *testing.T) {
	events := map[string]hook.Event{
		"whole": {
			Time: time.Date(2026, 11, 21, 18, 0, 0, 123456789, time.UTC), Workspace: "default",
			Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Data: []byte(`{"n":12345678901234567890}`),
		},
		"least":                 {Data: []byte(`{}`)},
		"long ago":              {Time: time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC), Data: []byte(`{}`)},
		"far in future":         {Time: time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC), Data: []byte(`{}`)},
		"as large as they come": {Time: time.Unix(5, 0).UTC(), Data: []byte(`{"a":"` + strings.Repeat("x", hook.MaxEventBytes) + `"}`)},
	}
	for name, ev := range events {
		t.Run(name, func(t *testing.T) {
			packed, err := packEvent(ev)
			if err != nil {
				t.Fatal(err)
			}
			var got hook.Event
			if err := unpackEvent(packed, &got); err != nil {
				t.Fatal(err)
			}
			if got.Time != ev.Time || got.Workspace != ev.Workspace || got.Traceparent != ev.Traceparent || !bytes.Equal(got.Data, ev.Data) {
				t.Errorf("unpackEvent(packEvent(%.200v)) = %.200v", ev, got)
			}
		})
	}
}

func FuzzPackEvent(f *testing.F) {
	f.Add(int64(0), int64(0), "", "", []byte(`{}`))
	f.Add(int64(-1), int64(999999999), "default", "00-01", []byte(strings.Repeat(`{"a":1}`, 40)))
	f.Fuzz(func(t *testing.T, sec, nanos int64, workspace, trace string, data []byte) {
		ev := hook.Event{Time: time.Unix(sec%(1<<40), nanos).UTC(), Workspace: workspace, Traceparent: trace, Data: data}
		packed, err := packEvent(ev)
		if err != nil {
			t.Fatal(err)
		}
		var got hook.Event
		if err := unpackEvent(packed, &got); err != nil {
			t.Fatal(err)
		}
		if got.Time != ev.Time || got.Workspace != workspace || got.Traceparent != trace || !bytes.Equal(got.Data, data) {
			t.Errorf("unpackEvent(packEvent(%+v)) = %+v", ev, got)
		}
	})
}

func FuzzUnpackEvent(f *testing.F) {
	whole, err := packEvent(hook.Event{Time: time.Unix(1, 2), Workspace: "w", Data: bytes.Repeat([]byte("ab"), 100)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte{packedPlain, 0, 0, 0, 0, '{', '}'})
	f.Fuzz(func(t *testing.T, b []byte) {
		var ev hook.Event
		if err := unpackEvent(b, &ev); err != nil {
			return
		}
		again, err := packEvent(ev)
		if err != nil {
			t.Fatal(err)
		}
		var got hook.Event
		if err := unpackEvent(again, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(ev, got); diff != "" {
			t.Errorf("what was unpacked does not survive packing (-want +got):\n%s", diff)
		}
	})
}

// sample is an event of about 1 KB, as a gateway's log entry looks.
func sample() hook.Event {
	doc := map[string]any{"upstream_id": "8d9d3f2c-2f0b-4d8e-9d31-0a5e2a8b7c11", "service": map[string]any{"name": "orders", "host": "orders.internal", "port": 8080, "protocol": "http"}}
	for i := range 12 {
		doc[fmt.Sprintf("header_%d", i)] = fmt.Sprintf("value-%d; q=0.%d, text/html;charset=utf-8; id=%x", i, i, i*7919+104729)
	}
	doc["latencies"] = map[string]int{"request": 515, "kong": 58, "proxy": 457}
	doc["request"] = map[string]any{"querystring": map[string]any{}, "size": 75, "uri": "/get", "url": "http://gateway.example.test:8000/get", "method": "GET"}
	data, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	return hook.Event{
		ID: "0197a0e0-0000-7000-8000-00000000000a", Source: "http-log", Event: "log", Time: time.UnixMilli(1795284000123).UTC(),
		Workspace: "default", Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Data: data,
	}
}

func BenchmarkPackEvent(b *testing.B) {
	ev := sample()
	var size int
	for b.Loop() {
		packed, err := packEvent(ev)
		if err != nil {
			b.Fatal(err)
		}
		size = len(packed)
	}
	b.ReportMetric(float64(len(ev.Data)), "data-bytes")
	b.ReportMetric(float64(size), "packed-bytes")
}

func BenchmarkUnpackEvent(b *testing.B) {
	packed, err := packEvent(sample())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		var ev hook.Event
		if err := unpackEvent(packed, &ev); err != nil {
			b.Fatal(err)
		}
	}
}
