package record_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/record"
)

func TestSummary_roundTrip(t *testing.T) {
	want := record.Summary{
		LastMS: 1_700_000_000_000, Note: "nothing judged: <why>", Unsent: 2,
		Targets: []record.TargetSummary{
			{
				TargetID: "t1", Address: "t1/10.0.0.1", IP: "10.0.0.1", Port: 80, Hostname: "web1.example.test",
				Health: "mostly_healthy", SinceMS: 3, Successes: 1, HTTPFailures: 2, TCPFailures: 3, Timeouts: 4,
				LastMS: 9, Result: record.ResultFailure, Reason: "status 503", DNSMS: 0.125, ConnectMS: 1.5, TLSMS: 2.25, FirstByteMS: 3, NextMS: 11,
			},
			{TargetID: "t2", Port: 8000, Hostname: "gone.example.test", DNSError: "name does not resolve", NextMS: 12},
		},
	}
	data, err := record.EncodeSummary(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := record.DecodeSummary(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("DecodeSummary (-want +got):\n%s", diff)
	}
}

func TestEncodeSummary_isBounded(t *testing.T) {
	var s record.Summary
	for i := range 5000 {
		s.Targets = append(s.Targets, record.TargetSummary{
			TargetID: fmt.Sprintf("%036d", i), Hostname: strings.Repeat("é", 1000),
			Reason: strings.Repeat("x", 1000), DNSError: "\x00" + strings.Repeat("\"", 1000),
		})
	}
	data, err := record.EncodeSummary(s)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > record.MaxSummaryBytes {
		t.Errorf("EncodeSummary wrote %d bytes; want at most %d", len(data), record.MaxSummaryBytes)
	}
	got, err := record.DecodeSummary(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Targets) == 0 || len(got.Targets)+got.Omitted != 5000 {
		t.Errorf("%d targets and %d omitted; want 5000 together", len(got.Targets), got.Omitted)
	}
	if h := got.Targets[0].Hostname; !utf8.ValidString(h) || strings.ContainsRune(h, utf8.RuneError) || len(h) > 310 {
		t.Errorf("a long text became %q", h)
	}
}

func TestEncodeSummary_keepsEachTargetOfAFullUpstream(t *testing.T) {
	var s record.Summary
	for i := range record.MaxSummaryTargets {
		s.Targets = append(s.Targets, record.TargetSummary{
			TargetID: fmt.Sprintf("%036d", i), IP: fmt.Sprintf("100.100.%d.%d", i/250, i%250), Port: 65000,
			Hostname: "web1.internal.example.test", Health: "mostly_unhealthy", SinceMS: 1_700_000_000_000,
			TCPFailures: 2, LastMS: 1_700_000_000_000, Result: "failure", Reason: "connection refused", ConnectMS: 12.345, NextMS: 1_700_000_000_000,
		})
	}
	data, err := record.EncodeSummary(s)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := record.DecodeSummary(data); err != nil || got.Omitted > 0 {
		t.Errorf("of %d targets %d did not fit (%d bytes), %v", record.MaxSummaryTargets, got.Omitted, len(data), err)
	}
}

func TestDecodeSummary_refuses(t *testing.T) {
	if got, err := record.DecodeSummary(nil); err != nil || len(got.Targets) != 0 {
		t.Errorf("DecodeSummary(nil) = %+v, %v; want none", got, err)
	}
	for name, data := range map[string]string{
		"what is not JSON": "{", "a later form": `{"v":99,"targets":[]}`, "another document": `[1]`,
		"more than is ever stored": strings.Repeat(" ", record.MaxSummaryBytes) + "{}",
	} {
		if _, err := record.DecodeSummary([]byte(data)); err == nil {
			t.Errorf("DecodeSummary takes %s", name)
		}
	}
}

func FuzzDecodeSummary(f *testing.F) {
	f.Add([]byte(`{"v":1,"targets":[{"target_id":"t","ip":"10.0.0.1"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := record.DecodeSummary(data)
		if err != nil {
			return
		}
		again, err := record.EncodeSummary(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := record.DecodeSummary(again); err != nil {
			t.Fatalf("what was decoded encodes to %q: %v", again, err)
		}
	})
}
