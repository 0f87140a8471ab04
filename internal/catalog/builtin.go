package catalog

import (
	"slices"
	"strings"

	"eventhooks/internal/hook"
)

// Sources of Kong, whose names are used more than once.
const (
	balancer = "balancer"
	crud     = "crud"
	daoCrud  = "dao:crud"
)

// builtIn is an event that is shipped, in a form that costs nothing until an
// entry is made of it. Lists are written with commas.
type builtIn struct {
	source, event, description string
	fields, unique, slot       string
	// also are names that some of its events carry beside fields, which are
	// those that all have.
	also   string
	sample string
}

func (b builtIn) entry() hook.Source {
	return hook.Source{
		Source: b.source, Event: b.event, Description: b.description,
		Fields: list(b.fields), Unique: list(b.unique), Slot: list(b.slot),
		Sample: []byte(b.sample), BuiltIn: true,
	}
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// others are all built-in events but those of crud. Names, fields and unique of
// Kong's are those of its documentation; http-log and file-log are no sources
// of Kong, its blog shows how one registers such a source.
var others = []builtIn{
	{
		source: balancer, event: "health",
		description: "A target of an upstream has become healthy or unhealthy; with reminder and since, it is still unhealthy",
		fields:      "upstream_id,ip,port,hostname,health",
		// on_change compares the health of one target with what that same
		// target said before, or two targets flapping in turn would always
		// look changed.
		slot: "upstream_id,ip,port,hostname",
		// A reminder is the same event once more, so that hooks get it that
		// want to know of a target that is down.
		also:   "reminder,since",
		sample: `{"upstream_id":"3d2aaac6-0400-401d-aac0-3f6a1bd3b6b7","ip":"10.16.0.2","port":3000,"hostname":"web1.example.test","health":"unhealthy"}`,
	},
	{
		source: balancer, event: "certificate-expiring",
		description: "The TLS certificate of a target of an upstream ends soon, or has ended",
		fields:      "upstream_id,ip,port,hostname,not_after,days_left",
		slot:        "upstream_id,ip,port,hostname",
		sample:      `{"upstream_id":"3d2aaac6-0400-401d-aac0-3f6a1bd3b6b7","ip":"10.16.0.2","port":443,"hostname":"web1.example.test","not_after":"2026-12-01T12:00:00Z","days_left":9}`,
	},
	{
		source: daoCrud, event: "create", fields: crudFields,
		description: "An entity of any kind has been created",
		sample:      `{"operation":"create",` + daoNow + `}`,
	},
	{
		source: daoCrud, event: "update", fields: crudFields,
		description: "An entity of any kind has been changed",
		sample:      `{"operation":"update",` + daoNow + `,` + daoOld + `}`,
	},
	{
		source: daoCrud, event: "delete", fields: crudFields,
		description: "An entity of any kind has been deleted",
		sample:      `{"operation":"delete",` + daoNow + `}`,
	},
	{
		source: "rate-limiting-advanced", event: "rate-limit-exceeded",
		description: "Run an event when a rate limit has been exceeded",
		fields:      "consumer,ip,service,rate,limit,window",
		unique:      "consumer,ip,service",
		sample:      `{"consumer":{},"ip":"10.0.0.9","service":{"id":"6792ec72-67b2-4960-96b1-e7564dda3178","name":"petstore"},"rate":6,"limit":5,"window":60}`,
	},
	{
		source: "oas-validation", event: "validation-failed",
		description: "A request does not match the API's specification",
		fields:      "consumer,ip,service,err",
		sample:      `{"consumer":{},"ip":"10.0.2.2","service":{"id":"6792ec72-67b2-4960-96b1-e7564dda3178","name":"petstore","host":"petstore.example.test","port":443,"protocol":"https"},"err":"query 'status' validation failed with error: 'required parameter value not found in request'"}`,
	},

	// The system tells about itself. The fields that name the event in question
	// are not called source and event: in a webhook's body those two are the
	// names of the event that is told.
	{
		source: hook.SystemSource, event: "delivery-failed",
		description: "A delivery has ended without success",
		fields:      "hook_id,hook_name,event_id,event_source,event_name,reason,attempts,error",
		unique:      "hook_id",
		sample:      `{"hook_id":"c57340ab-9fed-40fd-bb7e-1cef8d37c2df","hook_name":"on-call","event_id":"0197f3c6-1f2a-7c3d-9d2e-4b5a6c7d8e9f","event_source":"balancer","event_name":"health","reason":"exhausted","attempts":12,"error":"unexpected status 503"}`,
	},
	{
		source: hook.SystemSource, event: "breaker-opened",
		description: "A hook has failed so often in a row that its deliveries wait",
		fields:      "hook_id,hook_name,failures,since,error",
		unique:      "hook_id",
		sample:      `{"hook_id":"c57340ab-9fed-40fd-bb7e-1cef8d37c2df","hook_name":"on-call","failures":10,"since":"2026-11-21T18:00:00Z","error":"connection refused"}`,
	},
	{
		source: hook.SystemSource, event: "breaker-closed",
		description: "A hook whose deliveries waited has succeeded again",
		fields:      "hook_id,hook_name,since",
		unique:      "hook_id",
		sample:      `{"hook_id":"c57340ab-9fed-40fd-bb7e-1cef8d37c2df","hook_name":"on-call","since":"2026-11-21T18:00:00Z"}`,
	},
	{
		source: hook.SystemSource, event: "hook-disabled",
		description: "The system has disabled a hook",
		fields:      "hook_id,hook_name,reason",
		unique:      "hook_id",
		sample:      `{"hook_id":"c57340ab-9fed-40fd-bb7e-1cef8d37c2df","hook_name":"on-call","reason":"the receiver answered 410 Gone"}`,
	},
}

const crudFields = "operation,entity,old_entity,schema"

var operations = []string{"create", "update", "delete"}

// coreEntities are Kong's reserved entity names.
var coreEntities = []string{
	"admins", "applications", "application_instances", "audit_objects", "audit_requests",
	"ca_certificates", "certificates", "clustering_data_planes", "consumer_group_consumers",
	"consumer_group_plugins", "consumer_groups", "consumer_reset_secrets", "consumers", "credentials",
	"developers", "document_objects", "event_hooks", "files", "filter_chains", "group_rbac_roles",
	"groups", "key_sets", "keyring_keys", "keyring_meta", "keys", "legacy_files", "licenses",
	"login_attempts", "parameters", "plugins", "rbac_role_endpoints", "rbac_role_entities",
	"rbac_roles", "rbac_user_groups", "rbac_user_roles", "rbac_users", "routes", "services", "snis",
	"tags", "targets", "upstreams", "vaults", "workspace_entity_counters", "workspaces",
}

// pluginEntities are those of Kong's open-source plugins.
var pluginEntities = []string{
	"acls", "acme_storage", "basicauth_credentials", "hmacauth_credentials", "jwt_secrets",
	"keyauth_credentials", "oauth2_authorization_codes", "oauth2_credentials", "oauth2_tokens",
	"ratelimiting_metrics", "session_metadatas", "sessions",
}

// crudParts takes apart the name of an event of crud; false when no entity can
// be called so. op "" is all operations.
func crudParts(event string) (entity, op string, ok bool) {
	entity, op, colon := strings.Cut(event, ":")
	if colon && !slices.Contains(operations, op) || entity == "" {
		return "", "", false
	}
	for i := range len(entity) {
		if c := entity[i]; c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return "", "", false
		}
	}
	return entity, op, true
}

// crudEntry makes the entry of an entity; op "" is all operations.
func crudEntry(entity, op string) hook.Source {
	b := builtIn{source: crud, event: entity, fields: crudFields}
	switch op {
	case "":
		b.description = "An entity of " + entity + " has been created, changed or deleted"
		b.sample = crudSample(entity, "create")
		return b.entry()
	case "create":
		b.description = "An entity of " + entity + " has been created"
	case "update":
		b.description = "An entity of " + entity + " has been changed"
	case "delete":
		b.description = "An entity of " + entity + " has been deleted"
	}
	b.event = entity + ":" + op
	b.sample = crudSample(entity, op)
	return b.entry()
}

// crudSample is data as Kong sends it: nulls removed, old_entity with updates
// only.
func crudSample(schema, op string) string {
	entity, from, to := entitySample(schema)
	old := ""
	if op == "update" {
		old = `,"old_entity":` + strings.Replace(entity, from, to, 1)
	}
	return `{"operation":"` + op + `","schema":"` + schema + `","entity":` + entity + old + `}`
}

// entitySample returns an entity, and what is put for what in it to have the
// entity before a change.
func entitySample(schema string) (entity, from, to string) {
	switch schema {
	case "admins":
		return `{"id":"3f1c2a59-4b7d-4e96-bd7f-6a5b5f6c1e22","username":"admin_user","username_lower":"admin_user","email":"admin@example.test","custom_id":"custom-123","status":4,"rbac_token_enabled":true,"consumer":{"id":"8d90c6f4-12b4-4f86-9f56-7a8b8d4e9c1a"},"rbac_user":{"id":"26e7cb9f-9fcd-40de-a4d7-5f6c89d1e8a3"},"created_at":1706598432,"updated_at":1706684832}`,
			`"status":4`, `"status":1`
	case "consumers":
		return `{"id":"ea87c99f-36f1-41c9-8543-7b13ee2b5dfe","username":"my-consumer","username_lower":"my-consumer","type":0,"created_at":1734547295,"updated_at":1734547295}`,
			`"username":"my-consumer","username_lower":"my-consumer"`, `"username":"old-consumer","username_lower":"old-consumer"`
	case "services":
		return `{"id":"6792ec72-67b2-4960-96b1-e7564dda3178","name":"petstore","host":"new.example.test","port":443,"protocol":"https","enabled":true,"created_at":1647993371,"updated_at":1649391578}`,
			"new.example.test", "old.example.test"
	case "plugins":
		return `{"id":"b2b9c8f1-0f8e-4d5b-9a37-1c0f4d0a6a51","name":"rate-limiting","enabled":true,"service":{"id":"6792ec72-67b2-4960-96b1-e7564dda3178"},"config":{"minute":5,"policy":"local"},"created_at":1706598432,"updated_at":1706684832}`,
			`"minute":5`, `"minute":10`
	}
	return `{"id":"9b0e4a51-6b3f-4f6e-8f43-2f7c1de0a8c5","created_at":1706598432,"updated_at":1706684832}`,
		"1706684832", "1706598432"
}

// Data of dao:crud events: those of crud for a service. Constants, so that the
// table above is laid out by the compiler and not at every start.
const (
	daoNow = `"schema":"services","entity":{"id":"6792ec72-67b2-4960-96b1-e7564dda3178","name":"petstore","host":"new.example.test","port":443,"protocol":"https"}`
	daoOld = `"old_entity":{"id":"6792ec72-67b2-4960-96b1-e7564dda3178","name":"petstore","host":"old.example.test","port":443,"protocol":"https"}`
)
