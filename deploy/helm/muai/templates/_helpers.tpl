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

{{/* "true" where pods share a database. */}}
{{- define "muai.hasDatabase" -}}
{{- if or .Values.database.url .Values.database.existingSecret -}}true{{- end -}}
{{- end -}}

{{- define "muai.databaseSecretName" -}}
{{- .Values.database.existingSecret | default (printf "%s-database" (include "muai.fullname" .)) -}}
{{- end -}}

{{/* The variable that holds a caller's key. */}}
{{- define "muai.keyVariable" -}}
{{- printf "KEY_OF_%s" (. | upper | replace "-" "_") -}}
{{- end -}}

{{/* "true" where there may be more than one pod. */}}
{{- define "muai.hasSeveralPods" -}}
{{- if or .Values.autoscaling.enabled (gt (int .Values.replicaCount) 1) -}}true{{- end -}}
{{- end -}}

{{/* Roles of several releases may lie in one namespace. */}}
{{- define "muai.discoveryName" -}}
{{- printf "%s-%s-discovery" (trunc 40 .Release.Namespace) (include "muai.fullname" . | trunc 40) -}}
{{- end -}}

{{/* A quantity of CPUs, such as 4 or 4000m, in thousandths. */}}
{{- define "muai.millicores" -}}
{{- $quantity := toString . -}}
{{- if hasSuffix "m" $quantity -}}
{{- trimSuffix "m" $quantity -}}
{{- else -}}
{{- mulf (float64 $quantity) 1000 | int -}}
{{- end -}}
{{- end -}}

{{- define "muai.rayName" -}}
{{- printf "%s-ray" (include "muai.fullname" .) -}}
{{- end -}}

{{/* The same for every container that is a node of the cluster. */}}
{{- define "muai.rayNode" -}}
image: {{ include "muai.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* KubeRay makes the token, and gives it to the pods that it makes itself. */}}
{{- define "muai.rayEnvironment" -}}
- name: RAY_USAGE_STATS_ENABLED
  value: "0"
- name: RAY_AUTH_MODE
  value: token
- name: RAY_AUTH_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "muai.rayName" . }}
      key: auth_token
{{- end -}}

{{/* What a pod runs as. */}}
{{- define "muai.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
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
{{- if .Values.cluster.enabled -}}
{{- $address := printf "%s-head-svc:6379" (include "muai.rayName" .) -}}
{{- $_ := set $config "cluster" (merge (dict "address" $address) (default dict $config.cluster)) -}}
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
{{- printf "%s%s%s" (toYaml $config) (toYaml .Values.auth) (toYaml .Values.database) | sha256sum -}}
{{- end -}}

{{/* A pod of the cluster: the head's, or a worker's, which reads the models' files. */}}
{{- define "muai.rayPod" -}}
{{- $root := .root -}}
metadata:
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  labels:
    # Not the server's own name: no Service may send callers here.
    app.kubernetes.io/name: {{ include "muai.name" $root }}-ray
    app.kubernetes.io/instance: {{ $root.Release.Name }}
spec:
  {{- if not .annotations }}
  automountServiceAccountToken: false
  {{- end }}
  enableServiceLinks: false
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "muai.podSecurity" $root | nindent 4 }}
  containers:
    - name: ray
      {{- include "muai.rayNode" $root | nindent 6 }}
      env:
        - name: RAY_USAGE_STATS_ENABLED
          value: "0"
      # KubeRay's own ask with wget for Ray's dashboard; the image has neither.
      readinessProbe:
        tcpSocket:
          port: {{ .port }}
        periodSeconds: 5
        failureThreshold: 10
      livenessProbe:
        tcpSocket:
          port: {{ .port }}
        initialDelaySeconds: 60
        periodSeconds: 10
        failureThreshold: 12
      resources:
        {{- toYaml .group.resources | nindent 8 }}
      volumeMounts:
        - name: tmp
          mountPath: /tmp
        - name: data
          mountPath: /data
        - name: models
          mountPath: /data/models
          readOnly: true
        - name: shared-memory
          mountPath: /dev/shm
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: 2Gi
    - name: data
      emptyDir:
        sizeLimit: {{ $root.Values.persistence.sizeLimit }}
    - name: models
      persistentVolumeClaim:
        claimName: {{ $root.Values.modelStore.existingClaim }}
    - name: shared-memory
      emptyDir:
        medium: Memory
        sizeLimit: {{ $root.Values.sharedMemory }}
  {{- with .group.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .group.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
