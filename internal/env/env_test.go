package env_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/env"
	"eventhooks/internal/retry"
)

func settings(m map[string]string) *env.Settings {
	return env.New(func(name string) (string, bool) { v, ok := m[name]; return v, ok })
}

func TestSettings(t *testing.T) {
	t.Run("what is set is read", func(t *testing.T) {
		s := settings(map[string]string{
			"TABLE": " config ", "FLAG": "true", "LOG": "failures", "WAITS": "200ms,1s", "RANGES": "10.0.0.0/8, fd00::/8",
		})
		if got := s.String("TABLE"); got != "config" {
			t.Errorf("String = %q; want config", got)
		}
		if !s.Bool("FLAG", false) {
			t.Error("Bool = false; want true")
		}
		if got := s.OneOf("LOG", "all", "failures"); got != "failures" {
			t.Errorf("OneOf = %q; want failures", got)
		}
		if diff := cmp.Diff(retry.Schedule{200 * time.Millisecond, time.Second}, s.Schedule("WAITS")); diff != "" {
			t.Errorf("Schedule (-want +got):\n%s", diff)
		}
		want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
		if diff := cmp.Diff(want, s.Prefixes("RANGES"), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("Prefixes (-want +got):\n%s", diff)
		}
		if err := s.Err(); err != nil {
			t.Errorf("Err = %v; want none", err)
		}
	})
	t.Run("what is not set, or set to nothing, has its default", func(t *testing.T) {
		for _, m := range []map[string]string{nil, {"FLAG": "", "LOG": " ", "WAITS": "", "RANGES": ""}} {
			s := settings(m)
			if !s.Bool("FLAG", true) || s.OneOf("LOG", "all", "failures") != "all" || s.Prefixes("RANGES") != nil {
				t.Errorf("settings of %v are not the defaults", m)
			}
			if diff := cmp.Diff(retry.Default(), s.Schedule("WAITS")); diff != "" {
				t.Errorf("Schedule (-want +got):\n%s", diff)
			}
			if err := s.Err(); err != nil {
				t.Errorf("Err = %v; want none", err)
			}
		}
	})
	t.Run("everything missing or wrong is told at once, in order and once", func(t *testing.T) {
		s := settings(map[string]string{
			"FLAG": "maybe", "LOG": "some", "WAITS": "5s,soon", "RANGES": "10.0.0.0/33,10.1.2.3/8,192.168.0.0/16", "EMPTY": " ",
		})
		s.String("TABLE")
		s.String("EMPTY")
		s.Bool("FLAG", true)
		s.OneOf("LOG", "all", "failures")
		s.Schedule("WAITS")
		s.Prefixes("RANGES")
		s.String("TABLE")
		_, fault := retry.Parse("5s,soon")
		want := `TABLE is not set; EMPTY is not set; FLAG: "maybe" is neither true nor false; ` +
			`LOG: "some" is not one of all, failures; WAITS: ` + fault.Error() + `; ` +
			`RANGES: "10.0.0.0/33" is not an address range such as 10.0.0.0/8; ` +
			`RANGES: "10.1.2.3/8" has address bits beyond its length, 10.0.0.0/8 does not`
		if err := s.Err(); err == nil || err.Error() != want {
			t.Errorf("Err = %v\nwant  %s", err, want)
		}
	})
}

func TestSettings_AWS(t *testing.T) {
	lambda := map[string]string{
		"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "session",
	}
	with := func(extra map[string]string) map[string]string {
		m := map[string]string{}
		for k, v := range lambda {
			m[k] = v
		}
		for k, v := range extra {
			m[k] = v
		}
		return m
	}
	t.Run("region and credentials are Lambda's own", func(t *testing.T) {
		s := settings(lambda)
		cfg := s.AWS("SQS")
		c, err := cfg.Credentials.Retrieve(t.Context())
		if err != nil || s.Err() != nil {
			t.Fatalf("credentials: %v, settings: %v", err, s.Err())
		}
		if cfg.Region != "eu-west-1" || c.AccessKeyID != "AKID" || c.SecretAccessKey != "secret" || c.SessionToken != "session" {
			t.Errorf("config = %s, %s; want the environment's", cfg.Region, c.AccessKeyID)
		}
		if cfg.BaseEndpoint != nil {
			t.Errorf("endpoint = %s; want AWS's own", *cfg.BaseEndpoint)
		}
	})
	t.Run("as many connections are kept as deliver has attempts in flight", func(t *testing.T) {
		s := settings(lambda)
		client, ok := s.AWS("DYNAMODB").HTTPClient.(*awshttp.BuildableClient)
		if !ok {
			t.Fatal("the client is another; want the SDK's own, with other bounds")
		}
		const inFlight = 64 // as deliver.MaxInFlight
		kept := client.GetTransport()
		if kept.MaxIdleConnsPerHost < inFlight || kept.MaxIdleConns < 2*inFlight || kept.MaxConnsPerHost != 0 && kept.MaxConnsPerHost < inFlight {
			t.Errorf("%d connections are kept to a host, %d in all, of at most %d; want %d to each of two", kept.MaxIdleConnsPerHost, kept.MaxIdleConns, kept.MaxConnsPerHost, inFlight)
		}
	})
	t.Run("an endpoint of the service goes before one of all", func(t *testing.T) {
		s := settings(with(map[string]string{
			"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:2",
		}))
		for service, want := range map[string]string{"SQS": "http://127.0.0.1:2", "DYNAMODB": "http://127.0.0.1:1"} {
			if got := s.AWS(service).BaseEndpoint; got == nil || *got != want {
				t.Errorf("endpoint of %s = %v; want %s", service, got, want)
			}
		}
		if err := s.Err(); err != nil {
			t.Error(err)
		}
	})
	t.Run("what is missing is told once for all clients", func(t *testing.T) {
		s := settings(map[string]string{"AWS_ENDPOINT_URL_SQS": "127.0.0.1:9324"})
		s.AWS("DYNAMODB")
		s.AWS("SQS")
		const want = `AWS_REGION is not set; AWS_ACCESS_KEY_ID is not set; AWS_SECRET_ACCESS_KEY is not set; ` +
			`AWS_ENDPOINT_URL_SQS: "127.0.0.1:9324" is not an http or https URL`
		if err := s.Err(); err == nil || err.Error() != want {
			t.Errorf("Err = %v\nwant  %s", err, want)
		}
	})
}

func TestSettings_KMSKey(t *testing.T) {
	for v, fault := range map[string]bool{
		"": false, " ": false,
		"arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab": false,
		" arn:aws-us-gov:kms:us-gov-west-1:123456789012:alias/a/b ":                      false,
		"1234abcd-12ab-34cd-56ef-1234567890ab":                                           true,
		"alias/a":                                                                        true,
		"arn:aws:kms:eu-central-1:123456789012:key/":                                     true,
		"arn:aws:kms:eu-central-1:123456789012:grant/x":                                  true,
		"arn:aws:kms::123456789012:key/x":                                                true,
		"arn:aws:kms:eu-central-1::key/x":                                                true,
		"arn:aws:sqs:eu-central-1:123456789012:key/x":                                    true,
		"urn:aws:kms:eu-central-1:123456789012:key/x":                                    true,
		"arn:aws:kms:eu-central-1:123456789012:key/x:y":                                  true,
	} {
		s := settings(map[string]string{"KEY": v})
		if got := s.KMSKey("KEY"); got != strings.TrimSpace(v) || (s.Err() != nil) != fault {
			t.Errorf("KMSKey of %q = %q, %v; want it, a fault: %v", v, got, s.Err(), fault)
		}
	}
}

func TestSettings_Address(t *testing.T) {
	tests := []struct {
		name, set, fallback, want string
		fault                     bool
	}{
		{"a host and a port", "probe.example.test:8443", "", "probe.example.test:8443", false},
		{"an IPv6 address and a port", "[2001:db8::1]:443", "", "[2001:db8::1]:443", false},
		{"not set: of the URL, with its scheme's port", "", "https://sqs.eu-central-1.amazonaws.com/1/events", "sqs.eu-central-1.amazonaws.com:443", false},
		{"not set: of the URL, with its own port", "", "http://127.0.0.1:9324/1/events", "127.0.0.1:9324", false},
		{"neither", "", "", "", false},
		{"no port", "probe.example.test", "", "probe.example.test", true},
		{"a port that is none", "probe.example.test:0", "", "probe.example.test:0", true},
		{"a URL", "https://probe.example.test:443", "", "https://probe.example.test:443", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := settings(map[string]string{"A": tt.set})
			if got := s.Address("A", tt.fallback); got != tt.want {
				t.Errorf("Address = %q; want %q", got, tt.want)
			}
			if err := s.Err(); (err != nil) != tt.fault {
				t.Errorf("Err = %v; want a fault: %v", err, tt.fault)
			}
		})
	}
}
