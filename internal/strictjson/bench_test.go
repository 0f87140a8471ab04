package strictjson_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"eventhooks/internal/strictjson"
)

// document is an http-log entry of 1.3 KB, with the usual blanks.
var document = []byte(`{
  "request": { "id": "2f6946328ffc4946b8c9120704a4a155", "method": "GET", "uri": "/example-route", "url": "http://gateway.example.test:8000/example-route",
    "querystring": {}, "size": 139, "headers": { "host": "gateway.example.test:8000", "accept": "*/*", "user-agent": "HTTPie/3.2.3", "authorization": "REDACTED" } },
  "response": { "status": 200, "size": 9982, "headers": { "content-type": "text/html; charset=utf-8", "content-length": "9593", "x-kong-upstream-latency": "171" } },
  "latencies": { "kong": 1, "proxy": 171, "request": 173, "receive": 1 },
  "tries": [ { "ip": "192.0.2.204", "port": 80, "balancer_start": 1726783839539, "balancer_start_ns": 1.7267838395395e+18, "balancer_latency": 0 } ],
  "client_ip": "192.0.2.1", "started_at": 1726783839538, "upstream_uri": "/", "upstream_status": "200", "source": "upstream",
  "service": { "id": "fb4eecf8-dec2-40ef-b779-16de7e2384c7", "name": "example_service", "host": "upstream.example.test", "port": 80, "protocol": "http", "enabled": true, "retries": 5 },
  "route": { "id": "0f1a4101-3327-4274-b1e4-484a4ab0c030", "name": "example_route", "paths": ["/example-route"], "protocols": ["http", "https"], "strip_path": true, "note": "a \"quoted\" name" }
}`)

func BenchmarkCheck(b *testing.B) {
	b.SetBytes(int64(len(document)))
	b.ReportAllocs()
	for b.Loop() {
		if err := strictjson.Check(document, strictjson.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkObject(b *testing.B) {
	b.SetBytes(int64(len(document)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := strictjson.Object(document, strictjson.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	b.SetBytes(int64(len(document)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := strictjson.Decode(document, strictjson.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompact(b *testing.B) {
	b.SetBytes(int64(len(document)))
	b.ReportAllocs()
	dst := make([]byte, 0, len(document))
	for b.Loop() {
		dst = strictjson.Compact(dst[:0], document)
	}
}

// BenchmarkStandard is what the standard library takes for less: it lets
// duplicate names and bad UTF-8 pass.
func BenchmarkStandard(b *testing.B) {
	b.Run("valid", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			json.Valid(document)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d := json.NewDecoder(bytes.NewReader(document))
			d.UseNumber()
			var v any
			if err := d.Decode(&v); err != nil {
				b.Fatal(err)
			}
		}
	})
}
