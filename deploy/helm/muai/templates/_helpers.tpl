{{- define "muai.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "muai.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "muai.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "muai.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "muai.selectorLabels" -}}
app.kubernetes.io/name: {{ include "muai.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "muai.labels" -}}
{{ include "muai.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "muai.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default (printf "%s-cpu" .Chart.AppVersion)) -}}
{{- end -}}
{{- end -}}

{{- define "muai.secretName" -}}
{{- .Values.auth.existingSecret | default (printf "%s-api-keys" (include "muai.fullname" .)) -}}
{{- end -}}

{{/* The variable that holds a caller's key. */}}
{{- define "muai.keyVariable" -}}
{{- printf "KEY_OF_%s" (. | upper | replace "-" "_") -}}
{{- end -}}

{{/* "true" where there may be more than one pod. */}}
{{- define "muai.hasSeveralPods" -}}
{{- if or .Values.autoscaling.enabled (gt (int .Values.replicaCount) 1) -}}true{{- end -}}
{{- end -}}

{{/* The configuration: what the values say, the keys' variables, and no log file. */}}
{{- define "muai.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if .Values.auth.enabled -}}
{{- $keys := list -}}
{{- range $name, $caller := .Values.auth.callers -}}
{{- $key := dict "name" $name "key" (printf "${%s}" (include "muai.keyVariable" $name)) -}}
{{- $keys = append $keys (merge $key (omit $caller "key")) -}}
{{- end -}}
{{- $_ := set $config "api" (merge (dict "enable_auth" true "api_keys" $keys) (default dict $config.api)) -}}
{{- end -}}
{{- $_ := set $config "system" (merge (dict "log_file" nil) (default dict $config.system)) -}}
{{ toYaml $config }}
{{- end -}}

{{/* Changes with what pods must start anew for: all of the configuration but its live options. */}}
{{- define "muai.restartChecksum" -}}
{{- $config := include "muai.config" . | fromYaml -}}
{{- range .Files.Lines "files/live-options.txt" -}}
{{- $parts := splitList "." . -}}
{{- if eq (len $parts) 3 -}}
{{- $above := dig (index $parts 0) dict $config -}}
{{- /* The asterisk stands for each model. */ -}}
{{- range $name, $section := ternary $above (pick $above (index $parts 1)) (eq (index $parts 1) "*") -}}
{{- $_ := unset $section (index $parts 2) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- printf "%s%s" (toYaml $config) (toYaml .Values.auth) | sha256sum -}}
{{- end -}}
