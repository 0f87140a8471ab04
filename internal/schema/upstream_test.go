package schema_test

import (
	"strings"
	"testing"

	"eventhooks/internal/hook"
	"eventhooks/internal/schema"
)

// checkUpstream is check for an upstream: what is said of a field's value, "" for
// nothing.
func checkUpstream(t *testing.T, path, value, said string) {
	t.Helper()
	doc := set(t, `{"name":"web"}`, path, value)
	_, err := schema.NewUpstream([]byte(doc), "", "", nil)
	got := ""
	if err != nil {
		_, got, _ = strings.Cut(faultsOf(t, err).Error(), "(")
		got = strings.TrimSuffix(got, ")")
	}
	if said != "" {
		said = path + ": " + said
	}
	if got != said {
		t.Errorf("%.200s\n\tis said to be %q\n\twant           %q", doc, got, said)
	}
}

// TestNewUpstream_types sends the fields that Kong has not as every JSON type.
func TestNewUpstream_types(t *testing.T) {
	const active = "healthchecks.active."
	seconds := anInteger()
	seconds.of[`5`] = "value should be between 60 and 2592000, or null for never"
	for path, f := range map[string]fieldType{
		"remind_every":                     seconds,
		active + "type":                    aString("expected one of: http, https, tcp, grpc, grpcs"),
		active + "grpc_service":            aString(""),
		active + "certificate_expiry_days": anInteger(),
		active + "remind_every":            unknown(),
		"grpc_service":                     unknown(),
		"certificate_expiry_days":          unknown(),
	} {
		for _, value := range jsonTypes {
			checkUpstream(t, path, value, f.said(value))
		}
	}
}

func TestNewUpstream_values(t *testing.T) {
	const (
		active    = "healthchecks.active."
		service   = active + "grpc_service"
		days      = active + "certificate_expiry_days"
		unplain   = "must be printable and without spaces, such as shop.v1.Orders"
		daysOff   = "value should be between 0 and 365"
		remindOff = "value should be between 60 and 2592000, or null for never"
	)
	for _, tt := range []struct{ path, value, said string }{
		{active + "type", `"grpc"`, ""},
		{active + "type", `"grpcs"`, ""},
		{active + "type", `"GRPC"`, "expected one of: http, https, tcp, grpc, grpcs"},
		{service, `"shop.v1.Orders"`, ""},
		{service, `"/é-{}"`, ""},
		{service, `""`, "length must be at least 1"},
		{service, `"` + strings.Repeat("a", 255) + `"`, ""},
		{service, `"` + strings.Repeat("a", 256) + `"`, "length must be at most 255"},
		{service, `"a b"`, unplain},
		{service, `"a\u00a0b"`, unplain},
		{service, `"a\n"`, unplain},
		{service, `"\u0000"`, unplain},
		{service, `"\u202e"`, unplain},
		{days, `0`, ""},
		{days, `365`, ""},
		{days, `366`, daysOff},
		{days, `-1`, daysOff},
		{days, `1.5`, "expected an integer"},
		{"remind_every", `60`, ""},
		{"remind_every", `2592000`, ""},
		{"remind_every", `59`, remindOff},
		{"remind_every", `2592001`, remindOff},
		{"remind_every", `0`, remindOff},
	} {
		checkUpstream(t, tt.path, tt.value, tt.said)
	}
}

func TestNewUpstream_defaults(t *testing.T) {
	for _, doc := range []string{
		`{"name":"web"}`,
		`{"name":"web","remind_every":null,"healthchecks":{"active":{"grpc_service":null,"certificate_expiry_days":null}}}`,
	} {
		u, err := schema.NewUpstream([]byte(doc), "", "", nil)
		if err != nil || u.RemindEvery != 0 || u.Active.GRPCService != "" || u.Active.CertificateDays != 14 {
			t.Errorf("NewUpstream(%s) = %+v, %v; want no reminders, no service, 14 days", doc, u, err)
		}
	}
	// One that was stored before there were certificates to tell of stays as it was.
	old := hook.Upstream{ID: id, Name: "web", Active: schema.DefaultCheck()}
	old.Active.CertificateDays = 0
	u, err := schema.PatchUpstream([]byte(`{"tags":["x"]}`), old)
	if err != nil || u.Active.CertificateDays != 0 {
		t.Errorf("PatchUpstream = %+v, %v; want 0 days, as stored", u, err)
	}
}

func TestTargetIP(t *testing.T) {
	const (
		none  = "schema violation (address: expected an IP address and a port, such as 10.0.0.5:8000 or [2001:db8::5]:8000)"
		other = "schema violation (address: the target's port is 8000)"
	)
	for _, tt := range []struct{ target, address, want, fault string }{
		{"web.test:8000", "10.0.0.1:8000", "10.0.0.1", ""},
		{"web.test:8000", "[2001:DB8:0::5]:8000", "2001:db8::5", ""},
		{"web.test:8000", "[::ffff:10.0.0.1]:8000", "10.0.0.1", ""},
		{"10.0.0.1:8000", "10.0.0.1:8000", "10.0.0.1", ""},
		{"[::1]:8000", "[::1]:8000", "::1", ""},
		{"[::ffff:10.0.0.1]:8000", "10.0.0.1:8000", "10.0.0.1", ""},
		{"web.test:8000", "10.0.0.1:80", "", other},
		{"10.0.0.1:8000", "10.0.0.2:8000", "", "schema violation (address: the target is 10.0.0.1:8000 and has no other address)"},
		{"web.test:8000", "10.0.0.1", "", none},
		{"web.test:8000", "10.0.0.1:", "", none},
		{"web.test:8000", "10.0.0.1:80000", "", none},
		{"web.test:8000", "10.0.0.256:8000", "", none},
		{"web.test:8000", "010.0.0.1:8000", "", none},
		{"web.test:8000", "::1:8000", "", none},
		{"web.test:8000", "[fe80::1%eth0]:8000", "", none},
		{"web.test:8000", "web.test:8000", "", none},
		{"web.test:8000", "", "", none},
		{"web.test:8000", ":8000", "", none},
	} {
		got, err := schema.TargetIP(tt.address, hook.Target{Target: tt.target})
		switch {
		case tt.fault == "" && (err != nil || got != tt.want):
			t.Errorf("TargetIP(%q of %s) = %q, %v; want %q", tt.address, tt.target, got, err, tt.want)
		case tt.fault != "" && (err == nil || err.Error() != tt.fault):
			t.Errorf("TargetIP(%q of %s) = %q, %v; want %s", tt.address, tt.target, got, err, tt.fault)
		}
	}
}
