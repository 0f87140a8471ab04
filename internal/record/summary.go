package record

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Bounds of a summary: it is one item of a table, next to a lease.
const (
	// MaxSummaryTargets is how many addresses a summary lists.
	MaxSummaryTargets = 1000
	// MaxSummaryBytes is how large an encoded summary may be: DynamoDB takes
	// 400 KB an item, keys and lease included.
	MaxSummaryBytes = 350 << 10
	// maxSummaryText bounds each text of a summary, in bytes.
	maxSummaryText = 300
)

// Results of a target's last probe.
const (
	ResultSuccess = "success" // counted towards healthy
	ResultFailure = "failure" // counted towards unhealthy
	ResultIgnored = "ignored" // counted towards neither: a status in no list
	ResultBlocked = "blocked" // not probed: the egress rules refuse the address
)

// Summary is what healthprobe's last run of an upstream left for a person to
// read: one entry for each target address. It holds no verdict that the probe
// states do not hold; of its own it knows only when each was probed, so that
// losing it costs a probe that comes too early.
type Summary struct {
	LastMS  int64           `json:"last_ms"`        // when the run ended, Unix milliseconds
	Note    string          `json:"note,omitempty"` // what was wrong with the run as a whole: "nothing judged: ..."; "" when nothing was
	Targets []TargetSummary `json:"targets"`
	// Omitted is how many addresses did not fit.
	Omitted int `json:"omitted,omitempty"`
	// Unsent is how many events the run raised, or found, and could not send:
	// the next one tries again.
	Unsent int `json:"unsent,omitempty"`
	// KeptMS is when all probe states were last written whether they had
	// changed or not, because tables forget what is not written.
	KeptMS int64 `json:"kept_ms,omitempty"`
}

// TargetSummary is the last result of one target address. A name that did not
// resolve has one entry without an IP, with DNSError.
type TargetSummary struct {
	TargetID string `json:"target_id"`
	Address  string `json:"-"` // as hook.ProbeState.Address, from TargetID and IP; "" when the name did not resolve
	IP       string `json:"ip,omitempty"`
	Port     int    `json:"port"`
	Hostname string `json:"hostname"`

	Health  string `json:"health,omitempty"`   // a hook.Health; "" before the first verdict
	SinceMS int64  `json:"since_ms,omitempty"` // as hook.ProbeState.SinceMS
	// The four counters of the state machine.
	Successes    int64 `json:"successes,omitempty"`
	HTTPFailures int64 `json:"http_failures,omitempty"`
	TCPFailures  int64 `json:"tcp_failures,omitempty"`
	Timeouts     int64 `json:"timeouts,omitempty"`

	LastMS int64  `json:"at_ms,omitempty"`  // when the last probe began; 0 before the first
	Result string `json:"result,omitempty"` // one of the Result constants; "" before the first probe
	Reason string `json:"reason,omitempty"` // for a person: "status 503", "connection refused"
	// Durations of the last probe's phases in milliseconds, 0 for one that was
	// not reached.
	DNSMS       float64 `json:"dns_ms,omitempty"`
	ConnectMS   float64 `json:"connect_ms,omitempty"`
	TLSMS       float64 `json:"tls_ms,omitempty"`
	FirstByteMS float64 `json:"first_byte_ms,omitempty"`

	// CertificateMS is when the certificate ends that the last probe saw, Unix
	// milliseconds; 0 when it saw none.
	CertificateMS int64 `json:"certificate_ms,omitempty"`

	NextMS   int64  `json:"next_ms,omitempty"`   // when the next probe is due; 0 when none is planned
	DNSError string `json:"dns_error,omitempty"` // why the name gave no address this time; "" when it did
}

type summaryDoc struct {
	V int `json:"v"`
	Summary
}

// EncodeSummary returns the stored form of a summary, at most MaxSummaryBytes:
// texts are cut and, last of all, the targets at the end left out and counted
// in Omitted.
func EncodeSummary(s Summary) ([]byte, error) {
	doc := summaryDoc{V: version, Summary: s}
	doc.Note = cutText(s.Note)
	doc.Targets = make([]TargetSummary, 0, min(len(s.Targets), MaxSummaryTargets))
	for _, t := range s.Targets[:min(len(s.Targets), MaxSummaryTargets)] {
		t.Reason, t.DNSError, t.Hostname = cutText(t.Reason), cutText(t.DNSError), cutText(t.Hostname)
		doc.Targets = append(doc.Targets, t)
	}
	for {
		doc.Omitted = s.Omitted + len(s.Targets) - len(doc.Targets)
		data, err := encodeSummary(doc)
		if err != nil {
			return nil, fmt.Errorf("encode probe summary: %w", err)
		}
		if len(data) <= MaxSummaryBytes || len(doc.Targets) == 0 {
			return data, nil
		}
		doc.Targets = doc.Targets[:len(doc.Targets)*3/4]
	}
}

func encodeSummary(doc summaryDoc) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(doc); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// DecodeSummary reads a stored summary. No bytes are no summary: the zero
// value. A later form is an error.
func DecodeSummary(data []byte) (Summary, error) {
	if len(data) == 0 {
		return Summary{}, nil
	}
	if len(data) > MaxSummaryBytes {
		return Summary{}, fmt.Errorf("decode probe summary: %d bytes, at most %d are stored", len(data), MaxSummaryBytes)
	}
	var doc summaryDoc
	if err := json.Unmarshal(data, &doc); err != nil {
		return Summary{}, fmt.Errorf("decode probe summary: %w", err)
	}
	if doc.V > version {
		return Summary{}, fmt.Errorf("decode probe summary: it is of form %d, this program knows up to %d: deploy the newer version again", doc.V, version)
	}
	for i, t := range doc.Targets {
		if t.IP != "" {
			doc.Targets[i].Address = t.TargetID + "/" + t.IP
		}
	}
	return doc.Summary, nil
}

func cutText(s string) string {
	if len(s) <= maxSummaryText {
		return s
	}
	cut := maxSummaryText
	for cut > 0 && s[cut]&0xC0 == 0x80 { // not inside a character
		cut--
	}
	return s[:cut] + "…"
}
