package redact

import (
	"strings"
)

// Secrets are made at run time, so that scanners do not flag the repository.
func chars(alphabet string, n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteByte(alphabet[(i*7+i*i*3+5)%len(alphabet)])
	}
	return b.String()
}

const (
	b62   = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
	hex16 = "0123456789abcdef"
	up32  = "ABCDEFGHJKLMNPQRSTUVWXYZ234567"
)

type sample struct {
	name   string
	text   string // what stands in a text
	secret string // what must not remain of it; "": all of text
	kind   string
}

// samples has one positive for each pattern.
func samples() []sample {
	jwt := "eyJ" + chars(b62, 20) + ".eyJ" + chars(b62, 30) + "." + chars(b62, 43)
	key := strings.Repeat(chars(b62, 64)+"\n", 20)
	pem := "-----BEGIN RSA " + "PRIVATE KEY-----\n" + key + "-----END RSA " + "PRIVATE KEY-----"
	at := func(prefix, secret, suffix, kind string) sample {
		return sample{name: kind, text: prefix + secret + suffix, secret: secret, kind: kind}
	}
	s := []sample{
		at("", "sk-"+"ant-api03-"+chars(b62, 93)+"AA", "", "anthropic"),
		at("", "sk-"+"ant-oat01-"+chars(b62, 93)+"AA", "", "anthropic-oauth"),
		at("", "sk-"+"ant-ort01-"+chars(b62, 93)+"AA", "", "anthropic-oauth"),
		at("", "sk-"+"ant-admin01-"+chars(b62, 93)+"AA", "", "anthropic-admin"),
		at("", "sk-"+"ant-sid01-"+chars(b62, 93)+"AA", "", "anthropic-session"),
		at("", "sk-"+"proj-"+chars(b62, 58)+"T3Blbk"+"FJ"+chars(b62, 58), "", "openai"),
		at("", "sk-"+chars(hex16, 32), "", "openai"),
		at("", "sk-"+"or-v1-"+chars(hex16, 64), "", "openai"),
		at("", "AK"+"IA"+chars(up32, 16), "", "aws-id"),
		at("", "AS"+"IA"+chars(up32, 16), "", "aws-id"),
		at("aws_secret"+"_access_key = ", chars(b62, 40), "", "aws-secret"),
		at("AWS_SESSION"+"_TOKEN=\"", chars(b62, 80)+"==", "\"", "aws-secret"),
		at("Credential=", "AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request", ", SignedHeaders=a", "sigv4"),
		at("Signature=", chars(hex16, 64), "", "sigv4"),
		at("", "AB"+"SK"+chars(b62, 100)+"==", "", "bedrock-key"),
		at("", "bedrock-api"+"-key-"+chars(b62, 60), "", "bedrock-key"),
		at("", "gh"+"p_"+chars(b62, 36), "", "github"),
		at("", "github"+"_pat_"+chars(b62, 82), "", "github"),
		at("", "gh"+"s_"+jwt, "", "github"),
		at("", "gl"+"pat-"+chars(b62, 20), "", "gitlab"),
		at("", "xo"+"xb-"+chars("0123456789", 12)+"-"+chars(b62, 24), "", "slack"),
		at("", "xo"+"xe.xo"+"xp-1-"+chars(b62, 60), "", "slack"),
		at("", "xo"+"xd-"+chars(b62, 40)+"%2B", "", "slack"),
		at("", "xa"+"pp-1-A0"+chars(up32, 9)+"-"+chars("0123456789", 13)+"-"+chars(hex16, 64), "", "slack"),
		at("https://hooks.slack"+".com/services/", "T0000/B0000/"+chars(b62, 24), "", "slack-hook"),
		at("", "AI"+"za"+chars(b62, 35), "", "google-key"),
		at("", "A"+"Q.Ab"+chars(b62, 40), "", "google-auth-key"),
		at("", "ya"+"29."+chars(b62, 120), "", "google-oauth"),
		at("", "1/"+"/0"+chars(b62, 40), "", "google-refresh"),
		at("", "GOC"+"SPX-"+chars(b62, 28), "", "google-secret"),
		at("", "abc8"+"Q~"+chars(b62, 34), "", "azure-ad"),
		at("", "h"+"f_"+chars(b62, 34), "", "hf"),
		at("", "api"+"_org_"+chars(b62, 34), "", "hf"),
		at("", "gs"+"k_"+chars(b62, 52), "", "groq"),
		at("", "xa"+"i-"+chars(b62, 80), "", "xai"),
		at("", "pp"+"lx-"+chars(b62, 48), "", "pplx"),
		at("", "ls"+"v2_pt_"+chars(hex16, 32)+"_"+chars(hex16, 10), "", "langsmith"),
		at("", "np"+"m_"+chars(b62, 36), "", "npm"),
		at("", "sk"+"_live_"+chars(b62, 24), "", "stripe"),
		at("", "e"+"k_"+chars(b62, 32), "", "openai-ephemeral"),
		at("", jwt, "", "jwt"),
		at("", "eyJ"+chars(b62, 20)+"."+chars(b62, 20)+"."+chars(b62, 16)+"."+chars(b62, 50)+"."+chars(b62, 22), "", "jwt"),
		at("", pem, "", "private-key"),
		at("", strings.ReplaceAll(pem, "\n", `\n`), "", "private-key"),
		at("", pem[:400], "", "private-key"),
		at("", "AGE-SECRET"+"-KEY-1"+chars(up32, 58), "", "age"),
		at("PrivateKey = ", chars(b62, 43)+"=", "", "wireguard"),
		at("postgres://", "app:hunter2-"+chars(b62, 12), "@db.internal/x", "userinfo"),
		at("https://h.example/p?a=1&api_key=", chars(hex16, 20), "&b=2", "query"),
		at("grant_type=x&assertion=", chars(hex16, 20), "&b=2", "form"),
		at(`then {"access`+`_token": "`, chars(hex16, 20), `", "x": 1} done`, "json"),
		at(`then {\"client`+`_secret\":\"`, chars(hex16, 20), `\", x`, "json"),
		at("authorization: Bearer ", chars(b62, 30), "", "bearer"),
		at("realtime, openai-insecure"+"-api-key.", chars(b62, 30), ", x", "ws-protocol"),
		at("export SOME_API"+"_KEY=", chars(b62, 30), "", "env"),
		at("> x-api"+"-key: ", chars(b62, 30), "", "header"),
	}
	return s
}

// negatives are texts in which nothing is secret.
var negatives = []string{
	`{"max_tokens":16,"max_output_tokens":5,"input_tokens":1,"total_tokens":9,"token_type":"bearer","tokens":3,"tokenizer":"cl100k"}`,
	`{"next_page_token":"abcdefghijklmnop","page_token":"abc","stop_token":"<|end|>"}`,
	`{"properties":{"password":{"type":"string","description":"the password"},"api_key":{"type":"string"}}}`,
	`{"required":["password","token","secret"]}`,
	"a secret_santa party, and the tokens of the tokenizer are 5 tokens",
	"toolu_01A09q90qw90lq917835lq9", "msg_01XFDUDYJgAACzvnptvVoYEL", "req_011CSHoEeqs5C35K2UUqR7Fy", "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
	"resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b", "550e8400-e29b-41d4-a716-446655440000", "da39a3ee5e6b4b0d3255bfef95601890afd80709",
	"https://host/a:b@c", "http://localhost:8080/x", "task-list-with-a-very-long-hyphenated-name", "disk-encryption-of-something-long",
	"the bearer of this letter", "Bearer token", "AKIA is a prefix", "AQ.Something", "eyJ is how it begins", "x = y; a==b; std::string s; 10:30",
	"password: ask your admin", `{"signature":"EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds"}`,
	"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
	"Basic usage: sk- is the prefix. hf_ too. ghp_ as well.",
}

var testKey = [32]byte{1, 2, 3}
