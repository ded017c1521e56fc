<#
.SYNOPSIS
Collects in one .zip what is needed to understand how parscan did on this machine.

.DESCRIPTION
With -StartTrace it begins to record the driver's own events (ETW provider Parscan, levels up to
-Level); do what fails, and call it with -Out: it stops the recording, decodes it into
events-parscan.txt, and collects that with the rest. README.md lists the events.

The rest: entries of ParscanPort and ParscanScan in the System log (a start that failed), Windows'
log of device installations, the devices of both packages with their drivers and stacks,
services, Driver Verifier's settings and counts, events about device installation, driver isolation
and bug checks, and the versions of Windows. With -Dumps also the small memory dumps.

Collecting changes nothing but the .zip, and ends the recording. Read it before you publish it: it has the machine's name, its
devices and their serial numbers; a memory dump has whatever was in memory.

.PARAMETER StartTrace
Begins to record the driver's events, in a file of 16 MB at most, in which new ones replace the oldest.

.PARAMETER Level
1 critical, 2 errors, 3 warnings, 4 information, 5 everything.

.PARAMETER Out
The .zip to write.

.PARAMETER Dumps
Adds %windir%\Minidump.

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\Get-ParscanLog.ps1 -StartTrace -WhatIf

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\Get-ParscanLog.ps1 -Out C:\parscan-log.zip
#>
[CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'Collect')]
param(
    [Parameter(Mandatory, ParameterSetName = 'Trace')] [switch] $StartTrace,
    [Parameter(ParameterSetName = 'Trace')] [ValidateRange(1, 5)] [int] $Level = 5,
    [Parameter(Mandatory, ParameterSetName = 'Collect')] [string] $Out,
    [Parameter(ParameterSetName = 'Collect')] [switch] $Dumps
)
. "$PSScriptRoot\common.ps1"
Assert-Administrator

# The recording: name of the session, its file, and the provider's GUID.
$session = 'Parscan'
$recording = Join-Path $env:ProgramData 'Parscan\parscan.etl'
$provider = '{5d67e879-5dd6-56ae-75b1-ef3dd824ae50}'

if ($StartTrace) {
    if ($PSCmdlet.ShouldProcess($recording, 'Record the events of the driver in')) {
        $null = New-Item -ItemType Directory -Path (Split-Path $recording) -Force
        # One that still runs is begun anew.
        logman.exe stop $session -ets | Out-Null
    }
    $null = Invoke-Native logman.exe @('start', $session, '-p', $provider, '0xffffffffffffffff',
        "$Level", '-o', $recording, '-f', 'bincirc', '-max', '16', '-ets')
    Write-Output 'Do what fails, then: .\Get-ParscanLog.ps1 -Out ...'
    return
}
if (-not $PSCmdlet.ShouldProcess($Out, 'Collect logs into')) { return }

$folder = New-Item -ItemType Directory -Path (Join-Path ([IO.Path]::GetTempPath()) "parscan-log-$PID")
try {
    # What cannot be had is told in its file; the rest is collected all the same.
    function Save-Log {
        param([string] $Name, [scriptblock] $Command)
        $file = Join-Path $folder.FullName $Name
        try {
            & $Command | Out-File -LiteralPath $file -Encoding utf8 -Width 400
        } catch {
            "not to be had: $_" | Out-File -LiteralPath $file -Encoding utf8 -Append
        }
    }

    # tracerpt knows TraceLogging's format, in which events describe themselves.
    function Convert-Recording {
        logman.exe stop $session -ets
        if (-not (Test-Path -LiteralPath $recording)) { 'no recording: -StartTrace begins one'; return }
        $xml = Join-Path $folder.FullName 'events-parscan.xml'
        tracerpt.exe $recording -o $xml -of XML -y
        $events = [xml] (Get-Content -LiteralPath $xml -Raw)
        foreach ($event in $events.Events.Event) {
            if ($event.System.Provider.Guid -ne $provider) { continue }
            $task = $event.SelectSingleNode('*[local-name()="RenderingInfo"]/*[local-name()="Task"]')
            $fields = foreach ($data in $event.SelectNodes('.//*[local-name()="Data"]')) {
                "$($data.GetAttribute('Name'))=$($data.InnerText.Trim())"
            }
            "$($event.System.TimeCreated.SystemTime) $(if ($task) { $task.InnerText }) $($fields -join ' ')"
        }
        Copy-Item -LiteralPath $recording -Destination $folder.FullName
    }
    Save-Log 'events-parscan.txt' { Convert-Recording }
    Save-Log 'events-system.txt' {
        Get-WinEvent -FilterHashtable @{ LogName = 'System'; ProviderName = $ParscanPackages.Service } -MaxEvents 200 |
            Format-List TimeCreated, ProviderName, Id, Message
    }
    Save-Log 'windows.txt' { Get-ComputerInfo -Property 'Os*', 'Windows*', 'Bios*', 'DeviceGuard*' }
    Save-Log 'packages.txt' { Get-ParscanPackage | Format-List }
    Save-Log 'devices.txt' {
        foreach ($role in 'Port', 'Scanner') { Get-ParscanDevice -Role $role | Format-List }
    }
    foreach ($class in 'Ports', 'Image') {
        # /stack, /interfaces and /deviceids need Windows 11.
        Save-Log "pnputil-$class.txt" {
            pnputil.exe /enum-devices /class $class /drivers
            pnputil.exe /enum-devices /class $class /drivers /stack /services /interfaces /deviceids
        }
    }
    Save-Log 'services.txt' { foreach ($package in $ParscanPackages) { sc.exe query $package.Service; sc.exe qc $package.Service } }
    Save-Log 'boot.txt' { bcdedit.exe /enum '{current}' }
    Save-Log 'verifier.txt' { verifier.exe /querysettings; verifier.exe /query }
    Save-Log 'events-pnp.txt' {
        Get-WinEvent -LogName 'Microsoft-Windows-Kernel-PnP/Configuration' -MaxEvents 200 | Format-List TimeCreated, Id, Message
    }
    Save-Log 'events-isolation.txt' {
        foreach ($log in Get-WinEvent -ListLog '*Kernel-XDV*') {
            Get-WinEvent -LogName $log.LogName -MaxEvents 500 | Format-List TimeCreated, Id, Message
        }
    }
    Save-Log 'events-bugcheck.txt' {
        Get-WinEvent -FilterHashtable @{ LogName = 'System'; ProviderName = 'Microsoft-Windows-WER-SystemErrorReporting' } -MaxEvents 20 |
            Format-List TimeCreated, Id, Message
    }
    $logs = @("$env:windir\INF\setupapi.dev.log")
    if ($Dumps) { $logs += "$env:windir\Minidump" }
    foreach ($log in $logs | Where-Object { Test-Path -LiteralPath $_ }) {
        Copy-Item -LiteralPath $log -Destination $folder.FullName -Recurse
    }
    Compress-Archive -Path (Join-Path $folder.FullName '*') -DestinationPath $Out -Force
    Write-Output $Out
} finally {
    Remove-Item -LiteralPath $folder.FullName -Recurse -Force
}
