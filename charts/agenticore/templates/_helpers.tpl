{{/*
The values, with the defaults of this chart below them: an upgrade with --reuse-values brings the values of an older
chart alone. What somebody set to null (helm removes it) stays away: in values of the Python chart, which had these
two, and in values of this very chart, which its `valuesVersion` tells.
*/}}
{{- define "agenticore.values" -}}
{{- $defaults := .Files.Get "files/defaults.yaml" | fromYaml -}}
{{- $values := mergeOverwrite (deepCopy $defaults) (deepCopy .Values) -}}
{{- range list "podSecurityContext" "securityContext" -}}
{{- if not (hasKey $.Values .) -}}{{- $_ := unset $values . -}}{{- end -}}
{{- end -}}
{{- if eq (toString .Values.valuesVersion) (toString $defaults.valuesVersion) -}}
{{- if not (hasKey .Values "topologySpreadConstraints") -}}{{- $_ := unset $values "topologySpreadConstraints" -}}{{- end -}}
{{- range $path := list (list "storage" "fsGroup") (list "redis" "podSecurityContext") (list "redis" "resources") (list "keda" "behavior") -}}
{{- $section := index $path 0 -}}
{{- $key := index $path 1 -}}
{{- if hasKey $.Values $section -}}
{{- $given := get $.Values $section -}}
{{- if hasKey $given $key -}}{{- $_ := set (get $values $section) $key (get $given $key) -}}
{{- else -}}{{- $_ := unset (get $values $section) $key -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $values -}}
{{- end }}

{{/* A value as text. Numbers come as floats: whole ones are written as such. */}}
{{- define "agenticore.text" -}}
{{- if kindIs "invalid" . -}}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}{{- int64 . -}}
{{- else -}}{{- toString . -}}
{{- end -}}
{{- end }}

{{- define "agenticore.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "agenticore.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := "" -}}
{{- if .Values.fullnameOverride -}}
{{- $full = .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- $full = .Release.Name -}}
{{- else -}}
{{- $full = printf "%s-%s" .Release.Name $name -}}
{{- end -}}
{{- $full = toString $full | trunc 63 | trimSuffix "-" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $full) -}}
{{- fail (printf "the name %s is none that a Service can have: it must begin with a letter and hold small letters, digits and dashes; set fullnameOverride" $full) -}}
{{- end -}}
{{- if gt (len (include "agenticore.name" .)) 50 -}}
{{- fail (printf "nameOverride %s is too long: labels need one of at most 50 characters" (include "agenticore.name" .)) -}}
{{- end -}}
{{- if gt (len $full) 49 -}}
{{- fail (printf "the name %s has %d characters, but a StatefulSet's pods need names of at most 49: set fullnameOverride to a shorter one" $full (len $full)) -}}
{{- end -}}
{{- $full -}}
{{- end }}

{{- define "agenticore.selectorLabels" -}}
app.kubernetes.io/name: {{ include "agenticore.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Labels of what belongs to the release but is no server: no selector of the server finds it. (context, component) */}}
{{- define "agenticore.otherLabels" -}}
{{- $context := index . 0 -}}
app.kubernetes.io/name: {{ include "agenticore.name" $context }}-{{ index . 1 }}
app.kubernetes.io/instance: {{ $context.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "agenticore.commonLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "agenticore.labels" -}}
{{ include "agenticore.commonLabels" . }}
{{ include "agenticore.selectorLabels" . }}
{{- end }}

{{/* The image. The packaged one by its digest, as long as nobody names another repository or tag. */}}
{{- define "agenticore.image" -}}
{{- $v := include "agenticore.values" . | fromYaml -}}
{{- $named := printf "%s:%s" $v.image.repository (default .Chart.AppVersion (include "agenticore.text" $v.image.tag)) -}}
{{- $pinned := index (default dict .Chart.Annotations) "agenticore/pinned-image" | default "" -}}
{{- if $v.image.digest -}}
{{- printf "%s@%s" $named $v.image.digest -}}
{{- else if hasPrefix (printf "%s@" $named) $pinned -}}
{{- $pinned -}}
{{- else -}}
{{- $named -}}
{{- end -}}
{{- end }}

{{- define "agenticore.pullPolicy" -}}
{{- $v := include "agenticore.values" . | fromYaml -}}
{{- if $v.image.pullPolicy -}}{{- $v.image.pullPolicy -}}
{{- else if hasSuffix ":latest" (include "agenticore.image" .) -}}Always
{{- else -}}IfNotPresent
{{- end -}}
{{- end }}

{{/* What extraEnv sets a variable to, as text, else the default. (values, name, default) */}}
{{- define "agenticore.setting" -}}
{{- $found := index . 2 -}}
{{- $name := index . 1 -}}
{{- range (index . 0).extraEnv -}}
{{- if and (eq .name $name) (hasKey . "value") (ne (include "agenticore.text" .value) "") -}}{{- $found = .value -}}{{- end -}}
{{- end -}}
{{- include "agenticore.text" $found -}}
{{- end }}

{{- define "agenticore.sharedRoot" -}}
{{- regexReplaceAll "/+$" (include "agenticore.setting" (list . "AGENTICORE_SHARED_FS_ROOT" .sharedFs.root)) "" -}}
{{- end }}

{{- define "agenticore.claim" -}}
{{- $v := include "agenticore.values" . | fromYaml -}}
{{- default (printf "%s-shared" (include "agenticore.fullname" .)) $v.storage.existingClaim -}}
{{- end }}

{{- define "agenticore.redisAddress" -}}
{{- include "agenticore.fullname" . -}}-redis:6379
{{- end }}

{{/* A variable from a key of the Secret, which need not be there. (values, name, key) */}}
{{- define "agenticore.fromSecret" -}}
- name: {{ index . 1 }}
  valueFrom:
    secretKeyRef:
      name: {{ (index . 0).secretName | quote }}
      key: {{ index . 2 }}
      optional: true
{{- end }}

{{/* The names that the server answers to, once there are some: those of its Services and of the Ingress as well. */}}
{{- define "agenticore.hosts" -}}
{{- $v := include "agenticore.values" . | fromYaml -}}
{{- $hosts := $v.allowedHosts -}}
{{- $full := include "agenticore.fullname" . -}}
{{- range $service := list $full (printf "%s-headless" $full) -}}
{{- $below := printf "%s.%s" $service $.Release.Namespace -}}
{{- $hosts = concat $hosts (list $service $below (printf "%s.svc" $below) (printf "%s.svc.cluster.local" $below)) -}}
{{- end -}}
{{- if $v.ingress.enabled -}}{{- $hosts = append $hosts $v.ingress.host -}}{{- end -}}
{{- uniq $hosts | join "," -}}
{{- end }}

{{/* What every container of ours is told. */}}
{{- define "agenticore.ownEnv" -}}
{{- $v := include "agenticore.values" . | fromYaml -}}
- name: AGENTICORE_POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- {name: AGENTICORE_TRANSPORT, value: {{ $v.config.transport | quote }}}
- {name: AGENTICORE_HOST, value: "0.0.0.0"}
- {name: AGENTICORE_PORT, value: {{ $v.config.port | int64 | quote }}}
{{- if $v.caConfigMap }}
- {name: AGENTICORE_CA_FILE, value: /etc/agenticore/ca/ca.crt}
{{- end }}
{{- if $v.proxy }}
- {name: AGENTICORE_PROXY, value: {{ $v.proxy | quote }}}
{{- else }}
{{ include "agenticore.fromSecret" (list $v "AGENTICORE_PROXY" "proxy") }}
{{- end }}
{{- if $v.noProxy }}
- {name: NO_PROXY, value: {{ $v.noProxy | quote }}}
{{- end }}
{{- if $v.allowedHosts }}
- {name: AGENTICORE_ALLOWED_HOSTS, value: {{ include "agenticore.hosts" . | quote }}}
{{- end }}
{{- if $v.config.defaultProfile }}
- {name: AGENTICORE_DEFAULT_PROFILE, value: {{ $v.config.defaultProfile | quote }}}
{{- end }}
- {name: AGENTIHOOKS_PROFILE, value: {{ $v.config.agentihooksProfile | quote }}}
- {name: AGENTICORE_MAX_PARALLEL_JOBS, value: {{ $v.config.maxParallelJobs | int64 | quote }}}
- {name: AGENTICORE_JOB_TTL, value: {{ $v.config.jobTtl | int64 | quote }}}
- {name: AGENTICORE_CLAUDE_BINARY, value: {{ $v.config.claudeBinary | quote }}}
- {name: AGENTICORE_CLAUDE_TIMEOUT, value: {{ $v.config.claudeTimeout | int64 | quote }}}
- {name: AGENTICORE_SHUTDOWN_GRACE, value: {{ $v.config.shutdownGrace | int64 | quote }}}
- {name: AGENTICORE_SHARED_FS_ROOT, value: {{ $v.sharedFs.root | quote }}}
- {name: AGENTICORE_REPOS_ROOT, value: {{ $v.sharedFs.reposRoot | quote }}}
- {name: AGENTICORE_JOBS_DIR, value: {{ $v.sharedFs.jobsDir | quote }}}
- {name: AGENTICORE_WORKTREE_ROOT, value: {{ $v.worktreeRoot | quote }}}
- {name: HOME, value: {{ $v.home | quote }}}
- {name: TMPDIR, value: /tmp}
- {name: AGENTICORE_STORE, value: {{ ternary "embedded" "redis" $v.trial }}}
- {name: AGENTICORE_SECRET_NAME, value: {{ $v.secretName | quote }}}
{{- if $v.agentihooks.url }}
- {name: AGENTICORE_AGENTIHOOKS_URL, value: {{ $v.agentihooks.url | quote }}}
- {name: AGENTICORE_AGENTIHOOKS_SYNC_INTERVAL, value: {{ $v.agentihooks.syncInterval | int64 | quote }}}
{{- end }}
{{- if $v.agentihooks.path }}
- {name: AGENTICORE_AGENTIHOOKS_PATH, value: {{ $v.agentihooks.path | quote }}}
{{- end }}
{{- if not $v.trial }}
{{- if $v.redis.enabled }}
- {name: REDIS_URL, value: {{ printf "redis://%s/0" (include "agenticore.redisAddress" .) | quote }}}
{{- else }}
{{ include "agenticore.fromSecret" (list $v "REDIS_URL" "redis-url") }}
{{ include "agenticore.fromSecret" (list $v "REDIS_USERNAME" "redis-username") }}
{{ include "agenticore.fromSecret" (list $v "REDIS_PASSWORD" "redis-password") }}
{{- end }}
- {name: REDIS_KEY_PREFIX, value: {{ $v.redis.keyPrefix | quote }}}
{{- if $v.redis.sentinels }}
- {name: REDIS_SENTINELS, value: {{ $v.redis.sentinels | quote }}}
- {name: REDIS_SENTINEL_MASTER, value: {{ $v.redis.sentinelMaster | quote }}}
{{ include "agenticore.fromSecret" (list $v "REDIS_SENTINEL_USERNAME" "redis-sentinel-username") }}
{{ include "agenticore.fromSecret" (list $v "REDIS_SENTINEL_PASSWORD" "redis-sentinel-password") }}
{{- end }}
{{- end }}
{{- range $name, $key := dict "AGENTICORE_ANTHROPIC_CREDENTIAL" "anthropic-api-key" "CLAUDE_CODE_OAUTH_TOKEN" "claude-code-oauth-token" "ANTHROPIC_BASE_URL" "anthropic-base-url" "GITHUB_TOKEN" "github-token" "GITHUB_APP_ID" "github-app-id" "GITHUB_APP_INSTALLATION_ID" "github-app-installation-id" "GITHUB_APP_PRIVATE_KEY" "github-app-private-key" "AGENTICORE_API_KEYS" "api-keys" "AGENTICORE_WEBHOOK_URLS" "webhook-urls" "AGENTICORE_WEBHOOK_SECRET" "webhook-secret" }}
{{ include "agenticore.fromSecret" (list $v $name $key) }}
{{- end }}
{{- end }}

{{/* The same with extraEnv, which wins: no name twice, and of two in extraEnv the last. */}}
{{- define "agenticore.env" -}}
{{- $v := include "agenticore.values" . | fromYaml -}}
{{- $own := include "agenticore.ownEnv" . | fromYamlArray -}}
{{- $order := list -}}
{{- $last := dict -}}
{{- range concat $own (default list $v.extraEnv) -}}
{{- if not (hasKey $last .name) -}}{{- $order = append $order .name -}}{{- end -}}
{{- $_ := set $last .name . -}}
{{- end -}}
{{- $all := list -}}
{{- range $order -}}
{{- $entry := get $last . -}}
{{- if hasKey $entry "value" -}}
{{- $entry = dict "name" $entry.name "value" (include "agenticore.text" $entry.value) -}}
{{- end -}}
{{- $all = append $all $entry -}}
{{- end -}}
{{- toYaml $all -}}
{{- end }}

{{/* Disks of a pod's own: name → path, moved where extraEnv moves them. On the shared volume none is needed. */}}
{{- define "agenticore.disks" -}}
{{- $shared := include "agenticore.sharedRoot" . -}}
{{- $disks := dict -}}
{{- range $name, $asked := dict "worktrees" (list "AGENTICORE_WORKTREE_ROOT" .worktreeRoot) "home" (list "HOME" .home) "tmp" (list "TMPDIR" "/tmp") -}}
{{- $path := regexReplaceAll "/+$" (include "agenticore.setting" (list $ (index $asked 0) (index $asked 1))) "" -}}
{{- $taken := false -}}
{{- range $.extraVolumeMounts -}}{{- if eq (regexReplaceAll "/+$" .mountPath "") $path -}}{{- $taken = true -}}{{- end -}}{{- end -}}
{{- if not (or $taken (not (regexMatch "^/[^/]" $path)) (eq $path $shared) (hasPrefix (printf "%s/" $shared) $path) (has $path (values $disks))) -}}
{{- $_ := set $disks $name $path -}}
{{- end -}}
{{- end -}}
{{- toYaml $disks -}}
{{- end }}

{{/* The private authority's certificates, for whatever has the server's environment. */}}
{{- define "agenticore.caMount" -}}
{{- if .caConfigMap }}
- {name: agenticore-ca, mountPath: /etc/agenticore/ca, readOnly: true}
{{- end }}
{{- end }}
{{- define "agenticore.caVolume" -}}
{{- if .caConfigMap }}
- name: agenticore-ca
  configMap:
    name: {{ .caConfigMap | quote }}
    items: [{key: ca.crt, path: ca.crt}]
{{- end }}
{{- end }}

{{/*
Memory and CPU by the number of jobs: the document's table (2, 5, 10 and more), and never less memory than
320Mi a job and 512Mi. CPU is asked for and not limited; half the memory is asked for.
*/}}
{{- define "agenticore.resources" -}}
{{- if .resources -}}
{{- toYaml .resources -}}
{{- else -}}
{{- $jobs := include "agenticore.setting" (list . "AGENTICORE_MAX_PARALLEL_JOBS" .config.maxParallelJobs) | int -}}
{{- $cpu := "4" -}}
{{- $memory := 4096 -}}
{{- if le $jobs 0 -}}{{- $cpu = "100m" -}}{{- $memory = 512 -}}
{{- else if le $jobs 2 -}}{{- $cpu = "1" -}}{{- $memory = 2048 -}}
{{- else if le $jobs 5 -}}{{- $cpu = "2" -}}{{- $memory = 3072 -}}
{{- end -}}
{{- $memory = max $memory (add (mul 320 $jobs) 512) -}}
requests:
  cpu: {{ $cpu | quote }}
  memory: {{ div $memory 2 }}Mi
limits:
  memory: {{ $memory }}Mi
{{- end -}}
{{- end }}

{{- define "agenticore.podSecurity" -}}
{{- if hasKey . "podSecurityContext" }}
securityContext:
  {{- $own := dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") -}}
  {{- if and .trial .storage.fsGroup -}}
  {{- $own = merge $own (dict "fsGroup" (int64 .storage.fsGroup) "fsGroupChangePolicy" "OnRootMismatch") -}}
  {{- end -}}
  {{- $all := mergeOverwrite $own (default dict .podSecurityContext) -}}
  {{- if and $all.fsGroup (not (hasKey $all "fsGroupChangePolicy")) -}}{{- $_ := set $all "fsGroupChangePolicy" "OnRootMismatch" -}}{{- end -}}
  {{- range list "runAsUser" "runAsGroup" "fsGroup" -}}
  {{- if kindIs "invalid" (get $all .) -}}{{- $_ := unset $all . -}}
  {{- else if hasKey $all . -}}{{- $_ := set $all . (int64 (get $all .)) -}}
  {{- end -}}
  {{- end -}}
  {{- if and $all.runAsNonRoot (hasKey $all "runAsUser") (eq (toString $all.runAsUser) "0") -}}
  {{- fail "podSecurityContext.runAsUser is 0, and runAsNonRoot forbids that: give the volume to another uid, or set podSecurityContext.runAsNonRoot=false as well" -}}
  {{- end -}}
  {{- toYaml $all | nindent 2 }}
{{- end }}
{{- end }}

{{- define "agenticore.containerSecurity" -}}
{{- if hasKey . "securityContext" }}
securityContext:
  {{- $own := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) -}}
  {{- toYaml (mergeOverwrite $own (default dict .securityContext)) | nindent 2 }}
{{- end }}
{{- end }}

{{/* Seconds until SIGKILL: the drain, what running jobs get at SIGTERM, and five to end in. */}}
{{- define "agenticore.grace" -}}
{{- $grace := include "agenticore.setting" (list . "AGENTICORE_SHUTDOWN_GRACE" .config.shutdownGrace) -}}
{{- $seconds := ternary (div (add (int64 (trimSuffix "ms" $grace)) 999) 1000) (int64 (trimSuffix "s" $grace)) (hasSuffix "ms" $grace) -}}
{{- $least := add (int64 .drainSeconds) $seconds 5 -}}
{{- if .terminationGracePeriodSeconds -}}
{{- if lt (int64 .terminationGracePeriodSeconds) $least -}}
{{- fail (printf "terminationGracePeriodSeconds is %d, but must be at least %d: drainSeconds, config.shutdownGrace and 5" (int64 .terminationGracePeriodSeconds) $least) -}}
{{- end -}}
{{- int64 .terminationGracePeriodSeconds -}}
{{- else -}}
{{- $least -}}
{{- end -}}
{{- end }}

{{/* The port that the server listens on. */}}
{{- define "agenticore.port" -}}
{{- $port := include "agenticore.setting" (list . "AGENTICORE_PORT" .config.port) -}}
{{- if not (and (regexMatch "^[0-9]+$" $port) (ge (int64 $port) 1) (le (int64 $port) 65535)) -}}
{{- fail (printf "AGENTICORE_PORT in extraEnv is %s, but must be a number from 1 to 65535" $port) -}}
{{- end -}}
{{- $port -}}
{{- end }}

{{/* Pods of one kind of node, for whatever is not the server. */}}
{{- define "agenticore.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- $affinity := deepCopy (default dict .affinity) -}}
{{- if and .architectures (not (hasKey $affinity "nodeAffinity")) -}}
{{- $term := dict "matchExpressions" (list (dict "key" "kubernetes.io/arch" "operator" "In" "values" .architectures)) -}}
{{- $_ := set $affinity "nodeAffinity" (dict "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" (list $term))) -}}
{{- end }}
{{- with $affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "agenticore.serviceAccount" -}}
{{- $v := include "agenticore.values" . | fromYaml -}}
{{- if $v.serviceAccount.name }}
serviceAccountName: {{ $v.serviceAccount.name | quote }}
{{- else if $v.serviceAccount.create }}
serviceAccountName: {{ include "agenticore.fullname" . }}
{{- end }}
automountServiceAccountToken: {{ $v.serviceAccount.automount }}
{{- end }}
