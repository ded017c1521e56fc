<#
.SYNOPSIS
Settles, on a real machine, what Microsoft's documentation leaves open about the packages.

.DESCRIPTION
Writes a file for each experiment into a folder. Nothing is concluded: read the files.

  PortName     Does a port of this INF get a PortName (LPTn) from the class installer? Lists the
               friendly name, which parscan writes if nobody did, and the port's hardware key. Run
               it with parscan installed; again after -NoPortSubClass.
  StillImage   What does STI.USBSection of sti.inf add? Copies those sections of the machine's
               sti.inf, and asks InfVerif about a copy of our INF that does not use them.
  DeviceIds    In which order does Windows list a port's IDs, and by which does the in-box driver
               match? Run it with the port on either driver.
  ServiceKey   Is the service's key still there after Uninstall-Parscan.ps1?
  InfVerif     What does InfVerif say about both INFs, SubClass and its like included?

.PARAMETER Package
Folder of the package.

.PARAMETER Out
Folder for the files.

.PARAMETER Only
Experiments to run; all of them by default. StillImage and InfVerif need a prompt with the WDK's
tools in PATH.

.PARAMETER NoPortSubClass
Instead of the experiments: makes a copy of the package, <Out>\package, whose port INF does not
write the one-byte value PortSubClass, by which the class installer is taken to tell printer ports
from serial ones. It makes the catalogs anew and signs them (inf2cat and signtool of the WDK, with
the test certificate of cargo make). Install the copy with Install-Parscan.ps1.

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\Test-Experiment.ps1 -Package ..\..\target\debug\parscan_package -Out C:\experiments

.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\Test-Experiment.ps1 -Package C:\parscan_package -Out C:\experiments -NoPortSubClass -WhatIf
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory)] [string] $Package,
    [Parameter(Mandatory)] [string] $Out,
    [ValidateSet('PortName', 'StillImage', 'DeviceIds', 'ServiceKey', 'InfVerif')]
    [string[]] $Only = @('PortName', 'StillImage', 'DeviceIds', 'ServiceKey', 'InfVerif'),
    [switch] $NoPortSubClass
)
. "$PSScriptRoot\common.ps1"
Assert-Administrator

# Replaces a text that the INF has exactly once.
function Edit-Inf {
    param([string] $Text, [string] $From, [string] $To)
    $parts = $Text -split [regex]::Escape($From)
    if ($parts.Count -ne 2) { throw "The INF does not have this text once: $From" }
    $parts -join $To
}

# Writes what a command prints into a file of the output folder.
function Save-Output {
    [CmdletBinding(SupportsShouldProcess)]
    param([Parameter(Mandatory)] [string] $Name, [Parameter(Mandatory)] [scriptblock] $Command)
    $file = Join-Path $Out $Name
    if ($PSCmdlet.ShouldProcess($file, "Write the output of {$Command}")) {
        & $Command | Out-File -LiteralPath $file -Encoding utf8 -Width 400
        Write-Output $file
    }
}

if (-not (Test-Path -LiteralPath $Out)) { $null = New-Item -ItemType Directory -Path $Out }

if ($NoPortSubClass) {
    $copy = Join-Path $Out 'package'
    if (-not $PSCmdlet.ShouldProcess($copy, 'Make a package without PortSubClass')) { return }
    $null = New-Item -ItemType Directory -Path $copy -Force
    Copy-Item -Path (Join-Path $Package '*') -Destination $copy -Force
    Remove-Item -Path (Join-Path $copy '*.cat')
    $inf = Join-Path $copy 'parscan_lpt.inf'
    $text = [IO.File]::ReadAllText((Resolve-Path -LiteralPath $inf).ProviderPath)
    $text = Edit-Inf $text 'HKR,,PortSubClass,0x00000001,00' ''
    # Otherwise Windows keeps the package that it has: the fourth part of the version is raised.
    $text = [regex]::Replace($text, '(?m)^(DriverVer\s*=.*\.)(\d+)(\s*)$',
        { param($match) $match.Groups[1].Value + (1 + [int]$match.Groups[2].Value) + $match.Groups[3].Value })
    [IO.File]::WriteAllText((Resolve-Path -LiteralPath $inf).ProviderPath, $text, [Text.Encoding]::ASCII)
    $null = Invoke-Native inf2cat.exe @("/driver:$copy", '/os:10_x64', '/uselocaltime')
    foreach ($catalog in Get-ChildItem -Path $copy -Filter '*.cat') {
        $null = Invoke-Native signtool.exe @('sign', '/v', '/fd', 'SHA256', '/s', 'WDRTestCertStore',
            '/n', 'WDRLocalTestCert', $catalog.FullName)
    }
    return
}

if ($Only -contains 'PortName') {
    Save-Output 'port-name.txt' {
        foreach ($port in Get-ParscanDevice -Role Port) {
            $port | Format-List
            $key = "HKLM:\SYSTEM\CurrentControlSet\Enum\$($port.InstanceId)\Device Parameters"
            if (Test-Path -LiteralPath $key) { Get-ItemProperty -LiteralPath $key | Format-List }
        }
    }
}
if ($Only -contains 'StillImage') {
    Save-Output 'sti-inf-sections.txt' {
        $inside = $false
        foreach ($line in Get-Content -LiteralPath "$env:windir\INF\sti.inf") {
            if ($line -match '^\s*\[') { $inside = $line -match '^\s*\[STI\.USBSection' }
            if ($inside) { $line }
        }
    }
    if ($PSCmdlet.ShouldProcess((Join-Path $Out 'sti'), 'Make a copy of the INF that does not use STI.USBSection')) {
        $folder = New-Item -ItemType Directory -Path (Join-Path $Out 'sti') -Force
        $source = (Resolve-Path -LiteralPath (Join-Path $Package 'parscan_usb.inf')).ProviderPath
        $text = [IO.File]::ReadAllText($source)
        $text = Edit-Inf $text "Include      = sti.inf`r`n" ''
        $text = Edit-Inf $text "Needs        = STI.USBSection`r`n" ''
        [IO.File]::WriteAllText((Join-Path $folder.FullName 'parscan_usb.inf'), $text, [Text.Encoding]::ASCII)
    }
    Save-Output 'sti-infverif.txt' { infverif.exe /v /w (Join-Path $Out 'sti\parscan_usb.inf') }
}
if ($Only -contains 'DeviceIds') {
    # /deviceids needs Windows 11, /drivers build 19041.
    Save-Output 'device-ids.txt' {
        pnputil.exe /enum-devices /connected /class Ports /deviceids /drivers
        foreach ($port in Get-ParscanDevice -Role Port) {
            $port.InstanceId
            foreach ($key in 'DEVPKEY_Device_HardwareIds', 'DEVPKEY_Device_CompatibleIds',
                'DEVPKEY_Device_MatchingDeviceId', 'DEVPKEY_Device_DriverRank') {
                "  $key"
                Get-DeviceProperty $port.InstanceId $key | ForEach-Object { "    $_" }
            }
        }
    }
}
if ($Only -contains 'ServiceKey') {
    Save-Output 'service-keys.txt' {
        foreach ($package in $ParscanPackages) {
            sc.exe query $package.Service
            sc.exe qc $package.Service
            "key there: $(Test-Path -LiteralPath "HKLM:\SYSTEM\CurrentControlSet\Services\$($package.Service)")"
        }
        'packages:'
        Get-ParscanPackage | Format-Table -AutoSize
    }
}
if ($Only -contains 'InfVerif') {
    foreach ($mode in 'w', 'u', 'h', 'k') {
        Save-Output "infverif-$mode.txt" {
            infverif.exe /v "/$mode" (Join-Path $Package 'parscan_lpt.inf') (Join-Path $Package 'parscan_usb.inf')
            "exit code $LASTEXITCODE"
        }
    }
}
