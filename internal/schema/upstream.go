package schema

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"eventhooks/internal/hook"
)

// Bounds of an upstream.
const (
	maxHost        = 253
	maxPath        = 1024
	maxStatuses    = 100
	maxProbeHeader = 50
	maxSeconds     = 65535
	maxCount       = 254 // the four counters; Kong from 3.12.0.11
	maxTypeInt     = 1 << 31
	maxGRPCService = 255
	maxExpiryDays  = 365
	minRemind      = 60 // seconds: runs come once a minute
	maxRemind      = 30 * 24 * 3600
)

// DefaultCheck is what is watched of an upstream that says nothing: Kong's
// defaults, but for the zeros that would switch everything off.
func DefaultCheck() hook.ActiveCheck {
	return hook.ActiveCheck{
		Type: "http", Timeout: 1, Concurrency: 10, HTTPPath: "/", HTTPSVerify: true,
		HealthyInterval: 60, HealthyStatuses: []int64{200, 302}, Successes: 2,
		UnhealthyInterval: 60, UnhealthyStatuses: []int64{429, 404, 500, 501, 502, 503, 504, 505},
		TCPFailures: 2, Timeouts: 2, HTTPFailures: 2,
		CertificateDays: 14,
	}
}

func upstreamFields() []field {
	d := DefaultCheck()
	value := field{kind: text, most: maxHeader, check: headerValueFault}
	values := field{kind: array, least: 1, most: maxProbeHeader, elements: &value}
	status := field{kind: integer, lo: 100, hi: 999}
	count := func(name string, def int64) field {
		return field{name: name, kind: integer, lo: 0, hi: maxCount, def: def}
	}
	seconds := func(name string, def float64) field {
		return field{name: name, kind: number, lo: 0, hi: maxSeconds, def: def}
	}
	statuses := func(def []int64) field {
		return field{name: "http_statuses", kind: array, most: maxStatuses, elements: &status, def: anys(def)}
	}
	active := []field{
		{name: "type", kind: text, oneOf: []string{"http", "https", "tcp", "grpc", "grpcs"}, def: d.Type},
		seconds("timeout", d.Timeout),
		{name: "concurrency", kind: integer, lo: 1, hi: maxTypeInt, def: d.Concurrency},
		{name: "http_path", kind: text, most: maxPath, check: pathFault, def: d.HTTPPath},
		{name: "https_verify_certificate", kind: boolean, def: d.HTTPSVerify},
		{name: "https_sni", kind: text, most: maxHost, check: sniFault},
		{name: "headers", kind: mapping, most: maxProbeHeader, keys: probeHeaderFault, elements: &values},
		{name: "healthy", kind: record, required: true, fields: []field{
			seconds("interval", d.HealthyInterval), statuses(d.HealthyStatuses), count("successes", d.Successes),
		}},
		{name: "unhealthy", kind: record, required: true, fields: []field{
			seconds("interval", d.UnhealthyInterval), statuses(d.UnhealthyStatuses),
			count("tcp_failures", d.TCPFailures), count("timeouts", d.Timeouts), count("http_failures", d.HTTPFailures),
		}},
		{name: "grpc_service", kind: text, most: maxGRPCService, check: grpcServiceFault},
		{name: "certificate_expiry_days", kind: integer, lo: 0, hi: maxExpiryDays, def: d.CertificateDays},
	}
	fields := []field{
		idField(),
		{name: "created_at", kind: ignored},
		{name: "updated_at", kind: ignored},
		{name: "name", kind: text, required: true, most: maxHost, check: upstreamNameFault},
		{name: "host_header", kind: text, most: maxHost + len(":65535"), check: hostHeaderFault},
		tagsField(),
		{name: "healthchecks", kind: record, required: true, fields: []field{
			{name: "active", kind: record, required: true, fields: active},
			{name: "passive", kind: fixed, only: `{"type":"http",
				"healthy":{"http_statuses":[200,201,202,203,204,205,206,207,208,226,300,301,302,303,304,305,306,307,308],"successes":0},
				"unhealthy":{"http_statuses":[429,500,503],"tcp_failures":0,"timeouts":0,"http_failures":0}}`},
			{name: "threshold", kind: fixed, only: `0`},
		}},
		{name: "remind_every", kind: integer, lo: minRemind, hi: maxRemind, instead: ", or null for never"},
	}
	for _, balancing := range []struct{ name, def string }{
		{"algorithm", `"round-robin"`},
		{"slots", `10000`},
		{"use_srv_name", `false`},
		{"client_certificate", `null`},
		{"hash_on", `"none"`},
		{"hash_fallback", `"none"`},
		{"hash_on_header", `null`},
		{"hash_fallback_header", `null`},
		{"hash_on_cookie", `null`},
		{"hash_on_cookie_path", `"/"`},
		{"hash_on_query_arg", `null`},
		{"hash_fallback_query_arg", `null`},
		{"hash_on_uri_capture", `null`},
		{"hash_fallback_uri_capture", `null`},
		{"sticky_sessions_cookie", `null`},
		{"sticky_sessions_cookie_path", `"/"`},
	} {
		fields = append(fields, field{name: balancing.name, kind: fixed, only: balancing.def})
	}
	return fields
}

// UpstreamForm reads upstreams from forms.
func UpstreamForm() Form { return Form{upstreamFields()} }

// NewUpstream reads a whole upstream; times and Changed are the caller's. id
// and stored are as for NewHook, and so are the errors. name, unless empty,
// stands for the name that was sent.
func NewUpstream(doc []byte, id, name string, stored *hook.Upstream) (hook.Upstream, error) {
	return readUpstream(doc, object{}, id, name, stored)
}

// PatchUpstream reads changes of an upstream, as PatchHook does.
func PatchUpstream(doc []byte, stored hook.Upstream) (hook.Upstream, error) {
	return readUpstream(doc, upstreamObject(stored), stored.ID, "", &stored)
}

func readUpstream(doc []byte, base object, id, name string, stored *hook.Upstream) (hook.Upstream, error) {
	if err := isObject(doc); err != nil {
		return hook.Upstream{}, err
	}
	var faults Faults
	fields := withID(upstreamFields(), id)
	sent := readRecord(doc, fields, &faults)
	if name != "" {
		sent["name"] = name
		if fault := upstreamNameFault(name); fault != "" {
			faults.Add(fault, "name")
		}
	}
	o := merge(base, sent, fields)
	complete(o, fields, &faults)
	u := toUpstream(o)
	u.ID = cmp.Or(id, u.ID)
	keepUpstream(&u, stored, &faults)
	return u, faults.Err()
}

func toUpstream(o object) hook.Upstream {
	a := o.record("healthchecks").record("active")
	healthy, unhealthy := a.record("healthy"), a.record("unhealthy")
	u := hook.Upstream{
		ID: strings.ToLower(o.text("id")), Name: o.text("name"), HostHeader: o.text("host_header"), Tags: o.texts("tags"),
		Active: hook.ActiveCheck{
			Type: a.text("type"), Timeout: a.number("timeout"), Concurrency: a.integer("concurrency"),
			HTTPPath: a.text("http_path"), HTTPSVerify: a.boolean("https_verify_certificate"), HTTPSSNI: a.text("https_sni"),
			HealthyInterval: healthy.number("interval"), HealthyStatuses: healthy.integers("http_statuses"),
			Successes:         healthy.integer("successes"),
			UnhealthyInterval: unhealthy.number("interval"), UnhealthyStatuses: unhealthy.integers("http_statuses"),
			TCPFailures: unhealthy.integer("tcp_failures"), Timeouts: unhealthy.integer("timeouts"),
			HTTPFailures: unhealthy.integer("http_failures"),
			GRPCService:  a.text("grpc_service"), CertificateDays: a.integer("certificate_expiry_days"),
		},
		RemindEvery: o.integer("remind_every"),
	}
	if headers := a.record("headers"); len(headers) > 0 {
		u.Active.Headers = make(map[string][]string, len(headers))
		for name := range headers {
			u.Active.Headers[name] = headers.texts(name)
		}
	}
	return u
}

// upstreamObject is the opposite of toUpstream.
func upstreamObject(u hook.Upstream) object {
	a := u.Active
	active := object{
		"type": a.Type, "timeout": a.Timeout, "concurrency": a.Concurrency, "http_path": a.HTTPPath,
		"https_verify_certificate": a.HTTPSVerify, "https_sni": nonzero(a.HTTPSSNI),
		"healthy": object{
			"interval": a.HealthyInterval, "http_statuses": anys(slices.Clip(a.HealthyStatuses)), "successes": a.Successes,
		},
		"unhealthy": object{
			"interval": a.UnhealthyInterval, "http_statuses": anys(slices.Clip(a.UnhealthyStatuses)),
			"tcp_failures": a.TCPFailures, "timeouts": a.Timeouts, "http_failures": a.HTTPFailures,
		},
		"grpc_service": nonzero(a.GRPCService), "certificate_expiry_days": a.CertificateDays,
	}
	if len(a.Headers) > 0 {
		headers := make(object, len(a.Headers))
		for name, values := range a.Headers {
			headers[name] = anys(values)
		}
		active["headers"] = headers
	}
	return object{
		"name": u.Name, "host_header": nonzero(u.HostHeader), "tags": anys(u.Tags),
		"healthchecks": object{"active": active}, "remind_every": nonzero(u.RemindEvery),
	}
}

// ShownUpstream is an upstream as people read it.
type ShownUpstream struct {
	ID           string      `json:"id"`
	CreatedAt    int64       `json:"created_at"`
	UpdatedAt    int64       `json:"updated_at"`
	Name         string      `json:"name"`
	HostHeader   *string     `json:"host_header"`
	Tags         []string    `json:"tags"`
	Healthchecks shownChecks `json:"healthchecks"`
	RemindEvery  *int64      `json:"remind_every"`
}

type shownChecks struct {
	Active shownActive `json:"active"`
}

type shownActive struct {
	Type        string              `json:"type"`
	Timeout     float64             `json:"timeout"`
	Concurrency int64               `json:"concurrency"`
	HTTPPath    string              `json:"http_path"`
	HTTPSVerify bool                `json:"https_verify_certificate"`
	HTTPSSNI    *string             `json:"https_sni"`
	Headers     map[string][]string `json:"headers"`
	Healthy     shownHealthy        `json:"healthy"`
	Unhealthy   shownUnhealthy      `json:"unhealthy"`
	GRPCService *string             `json:"grpc_service"`
	ExpiryDays  int64               `json:"certificate_expiry_days"`
}

type shownHealthy struct {
	Interval  float64 `json:"interval"`
	Statuses  []int64 `json:"http_statuses"`
	Successes int64   `json:"successes"`
}

type shownUnhealthy struct {
	Interval     float64 `json:"interval"`
	Statuses     []int64 `json:"http_statuses"`
	TCPFailures  int64   `json:"tcp_failures"`
	Timeouts     int64   `json:"timeouts"`
	HTTPFailures int64   `json:"http_failures"`
}

// ShowUpstream returns the upstream as people read it, without the secrets of
// its probes' headers.
func ShowUpstream(u hook.Upstream) ShownUpstream {
	a := u.Active
	active := shownActive{
		Type: a.Type, Timeout: a.Timeout, Concurrency: a.Concurrency, HTTPPath: a.HTTPPath,
		HTTPSVerify: a.HTTPSVerify, HTTPSSNI: orNull(a.HTTPSSNI),
		Healthy: shownHealthy{a.HealthyInterval, list(a.HealthyStatuses), a.Successes},
		Unhealthy: shownUnhealthy{
			a.UnhealthyInterval, list(a.UnhealthyStatuses), a.TCPFailures, a.Timeouts, a.HTTPFailures,
		},
		GRPCService: orNull(a.GRPCService), ExpiryDays: a.CertificateDays,
	}
	if len(a.Headers) > 0 {
		active.Headers = make(map[string][]string, len(a.Headers))
		for name, values := range a.Headers {
			if hook.SecretHeader(name) {
				values = []string{hook.Redacted}
			}
			active.Headers[name] = values
		}
	}
	return ShownUpstream{
		ID: u.ID, CreatedAt: u.CreatedAt, UpdatedAt: u.UpdatedAt, Name: u.Name,
		HostHeader: orNull(u.HostHeader), Tags: u.Tags, Healthchecks: shownChecks{active},
		RemindEvery: orNull(u.RemindEvery),
	}
}

// list is s, never null.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// IsUpstreamName reports whether an upstream may have the name.
func IsUpstreamName(s string) bool { return upstreamNameFault(s) == "" }

// upstreamNameFault has Kong's texts.
func upstreamNameFault(s string) string {
	if _, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return "Invalid name; no ip addresses allowed"
	}
	if host, _, err := net.SplitHostPort(s); err == nil {
		if _, err := netip.ParseAddr(host); err == nil {
			return "Invalid name; no ip addresses allowed"
		}
		if isHostname(host) {
			return "Invalid name; no port allowed"
		}
	}
	if !isHostname(s) || len(s) > maxHost {
		return "Invalid name; must be a valid hostname"
	}
	return ""
}

func hostHeaderFault(s string) string {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = s, "80"
	}
	_, err = netip.ParseAddr(host)
	n, portErr := strconv.Atoi(port)
	if err != nil && !isHostname(host) || portErr != nil || n < 1 || n > 65535 {
		return "invalid value: " + s
	}
	return ""
}

func sniFault(s string) string {
	if _, err := netip.ParseAddr(s); err == nil {
		return "must not be an IP"
	}
	if !isHostname(s) {
		return "invalid value: " + s
	}
	return ""
}

// grpcServiceFault: a service's name is what its server registered it as, so
// that nothing is known of it but that people can read it.
func grpcServiceFault(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }) {
		return "must be printable and without spaces, such as shop.v1.Orders"
	}
	return ""
}

// probeHeaderFault refuses what a probe's request sets itself.
func probeHeaderFault(name string) string {
	if !isToken(name) {
		return "invalid header name"
	}
	switch strings.ToLower(name) {
	case "content-length", "transfer-encoding", "connection":
		return "reserved header"
	}
	return ""
}

// pathFault has Kong's texts; beyond Kong, a query may follow the path.
func pathFault(s string) string {
	if !strings.HasPrefix(s, "/") {
		return "should start with: /"
	}
	path, _, _ := strings.Cut(s, "?")
	if strings.Contains(path, "//") {
		return "must not have empty segments"
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		switch {
		case c == '%':
			if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return "invalid url-encoded value: '" + s[i:min(i+3, len(s))] + "'"
			}
		case !alnum && !strings.Contains("-._~/:@!$&'()*+,;=?", string(rune(c))):
			return "invalid path: '" + s + "' (characters outside of the reserved list of RFC 3986 found)"
		}
	}
	return ""
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// isHostname reports whether s is labels of letters, digits, - and _, joined
// by dots; the last dot may be there. All digits would be an address.
func isHostname(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > maxHost {
		return false
	}
	letters := false
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '-'
			if !letter && (c < '0' || c > '9') {
				return false
			}
			letters = letters || letter
		}
	}
	return letters
}
